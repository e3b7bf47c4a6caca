//! The dispatcher binary: commands, configuration errors, roles, and TLS to Postgres.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use chaos::binary::dispatcher_binary;
use chaos::host::free_port;
use chaos::postgres::Postgres;
use dispatcher::Role;
use nix::unistd::{Gid, Uid, chown};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::StatusCode;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::app::{App, WAIT_MAX};
use crate::support::db;
use crate::support::db::dedicated_server;
use crate::support::fixture::Endpoint;

/// Runs the binary with only the given environment variables and waits for its exit.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let program = dispatcher_binary().expect("the binary can be built");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().expect("the binary can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_setting_with_its_default_and_limits() {
    let output = run(&["--help"], &[]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for setting in dispatcher::config::settings::SETTINGS {
        assert!(help.contains(setting.name) && help.contains(setting.about), "{}", setting.name);
        assert!(help.contains(setting.default) && help.contains(&setting.limits.to_string()));
    }
    for command in ["serve", "api", "worker", "migrate", "check", "healthcheck"] {
        assert!(help.contains(command), "{command}");
    }
}

#[test]
fn invalid_settings_are_reported_together_at_start() {
    for arguments in [&[][..], &["api"], &["worker"], &["migrate"], &["check"]] {
        let output =
            run(arguments, &[("HTTP_TIMEOUT", "soon"), ("BIND", "here"), ("DATABASE_URL", "no")]);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        for named in ["HTTP_TIMEOUT", "BIND", "DATABASE_URL"] {
            assert!(error.contains(named), "{error}");
        }
        assert!(!error.contains("panicked") && !error.contains("RUST_BACKTRACE"), "{error}");
    }
}

// Deliveries would use all descriptors, and no client could connect.
#[test]
fn too_few_descriptors_for_clients_refuse_the_start() {
    let program = dispatcher_binary().expect("the binary can be built");
    for command in ["serve", "api", "worker", "check"] {
        let mut limited = Command::new("prlimit");
        limited.arg("--nofile=140:140").arg(&program).arg(command);
        let output = limited.env_clear().output();
        let output = output.expect("prlimit of util-linux is installed");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.contains("140 file descriptors"), "{error}");
        assert!(error.contains("ulimit -n"), "{error}");
    }
}

#[tokio::test]
async fn check_and_migrate_report_the_state_of_the_schema() {
    let database = db::database().await;
    let run = |arguments: &'static [&'static str]| {
        let database = database.clone();
        tokio::task::spawn_blocking(move || run(arguments, &[("DATABASE_URL", &database)]))
    };
    let before = run(&["check"]).await.unwrap();
    assert!(before.status.success(), "{}", text(&before.stderr));
    assert!(text(&before.stdout).contains("no schema yet"), "{}", text(&before.stdout));
    let migrated = run(&["migrate"]).await.unwrap();
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let after = text(&run(&["check"]).await.unwrap().stdout);
    assert!(after.contains("\n  schema    current"), "{after}");
}

/// Runs `dispatcher healthcheck` with `BIND` set to `address`.
async fn healthcheck(address: SocketAddr) -> Output {
    let bind = address.to_string();
    tokio::task::spawn_blocking(move || run(&["healthcheck"], &[("BIND", &bind)]))
        .await
        .expect("the command does not panic")
}

// A health check whose client always fails would let an engine restart a working container.
#[tokio::test]
async fn healthcheck_of_a_ready_dispatcher_exits_with_0() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let output = healthcheck(app.address).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    app.stop().await;
}

#[tokio::test]
async fn healthcheck_without_a_database_reports_the_503() {
    let no_database = format!("postgresql://postgres@127.0.0.1:{}/none", free_port());
    let app = App::unready(&no_database, Role::Api, &[], &db::database().await).await;
    let output = healthcheck(app.address).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("returned 503"), "{error}");
    app.stop().await;
}

#[tokio::test]
async fn healthcheck_without_a_dispatcher_names_the_setting() {
    let output = healthcheck(([127, 0, 0, 1], free_port()).into()).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("running with this BIND"), "{error}");
}

#[test]
fn check_without_a_database_names_the_setting_but_no_password() {
    let output = run(&["check"], &[("DATABASE_URL", "postgres://x:secret@127.0.0.1:1/none")]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("DATABASE_URL") && !error.contains("secret"), "{error}");
}

// One process accepts the events, and two others deliver them. No process depends on another one.
#[tokio::test]
async fn roles_share_one_postgres() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = App::over(&database, Role::Api, &[]).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(api.accept("{}", &endpoint.url(n)).await);
    }
    let one = App::over(&database, Role::Worker, &[]).await;
    let other = App::over(&database, Role::Worker, &[]).await;
    for id in &ids {
        api.event_with_status(id, "delivered").await;
    }
    assert_eq!(endpoint.journal.receipts().len(), 10);
    let post = one.post(r#"{"payload":1,"target_url":"http://example.com"}"#).await;
    assert_eq!(post.status(), StatusCode::NOT_FOUND, "a worker accepts no events");
    assert_eq!(one.get("/metrics").await.status(), StatusCode::OK);
    for app in [api, one, other] {
        app.stop().await;
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is invalid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the key can be generated");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key)
                .expect("the certificate can be signed"),
        }
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).expect("the file can be written");
    }

    /// Installs a certificate for 127.0.0.1 on a server and enables TLS.
    async fn secure(&self, server: &Postgres) {
        let key = KeyPair::generate().expect("the key can be generated");
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("the address is valid");
        let certificate =
            params.signed_by(&key, &self.issuer).expect("the certificate can be signed");
        let directory = server.data_dir().expect("the server runs on this machine");
        let owner = std::fs::metadata(directory).expect("the data directory exists");
        for (name, pem) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())]
        {
            let path = directory.join(name);
            std::fs::write(&path, pem).expect("the file can be written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))
                .expect("the test owns the file");
            chown(&path, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))
                .expect("the owner can be changed");
        }
        let pool = db::pool(server.admin_url()).await;
        for sql in ["alter system set ssl = on", "select pg_reload_conf()"] {
            sqlx::raw_sql(sql).execute(&pool).await.expect("the role is a superuser");
        }
    }
}

#[tokio::test]
async fn postgres_tls_works_and_an_unknown_authority_is_refused() {
    let Some(own) = dedicated_server().await else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    let (trusted, unknown) = (files.path().join("trusted.pem"), files.path().join("unknown.pem"));
    let authority = Authority::new();
    authority.secure(own.postgres()).await;
    authority.write(&trusted);
    Authority::new().write(&unknown);
    let database = own.postgres().create_database("tls").await.unwrap();
    let url =
        |root: &Path| format!("{database}?sslmode=verify-full&sslrootcert={}", root.display());

    let app = App::unready(&url(&trusted), Role::Serve, &[], &database).await;
    app.until_ready().await;
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)
                     where application_name = 'webhook-dispatcher' and datname = current_database()";
    assert_eq!(
        sqlx::query_scalar::<_, Option<bool>>(encrypted).fetch_one(&app.pool).await.unwrap(),
        Some(true)
    );
    app.stop().await;

    let refused = url(&unknown);
    let check = tokio::task::spawn_blocking(move || run(&["check"], &[("DATABASE_URL", &refused)]));
    let output = tokio::time::timeout(WAIT_MAX, check).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}
