//! The binary as an operator meets it: its commands, its complaints, its roles, and TLS to Postgres.

use std::path::Path;
use std::process::{Command, Output};

use chaos::binary::dispatcher_binary;
use chaos::postgres::Postgres;
use dispatcher::Role;
use nix::unistd::{Gid, Uid, chown};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::StatusCode;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::app::{App, PATIENCE};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::own::own_server;

/// Runs the binary to its end with nothing but these variables.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let program = dispatcher_binary().expect("the binary can be built");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied());
    command.output().expect("it runs")
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
        assert!(
            help.contains(setting.name) && help.contains(setting.about),
            "{}",
            setting.name
        );
        assert!(help.contains(setting.default) && help.contains(&setting.limits.to_string()));
    }
    for command in ["serve", "api", "worker", "migrate", "check", "healthcheck"] {
        assert!(help.contains(command), "{command}");
    }
}

#[test]
fn a_bad_setting_ends_the_start_with_one_readable_error_that_names_all() {
    for arguments in [&[][..], &["api"], &["worker"], &["migrate"], &["check"]] {
        let output = run(
            arguments,
            &[
                ("HTTP_TIMEOUT", "soon"),
                ("BIND", "here"),
                ("DATABASE_URL", "no"),
            ],
        );
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = text(&output.stderr);
        for named in ["HTTP_TIMEOUT", "BIND", "DATABASE_URL"] {
            assert!(told.contains(named), "{told}");
        }
        assert!(
            !told.contains("panicked") && !told.contains("RUST_BACKTRACE"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn check_and_migrate_say_what_they_find_and_do() {
    let database = db::database().await;
    let run = |arguments: &'static [&'static str]| {
        let database = database.clone();
        tokio::task::spawn_blocking(move || run(arguments, &[("DATABASE_URL", &database)]))
    };
    let before = run(&["check"]).await.unwrap();
    assert!(before.status.success(), "{}", text(&before.stderr));
    assert!(
        text(&before.stdout).contains("no schema yet"),
        "{}",
        text(&before.stdout)
    );
    let migrated = run(&["migrate"]).await.unwrap();
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    assert!(text(&run(&["check"]).await.unwrap().stdout).contains("schema current"));
    let unwell = run(&["healthcheck"]).await.unwrap();
    assert_eq!(
        unwell.status.code(),
        Some(1),
        "nothing serves on the default port of this test"
    );
}

#[test]
fn check_against_no_database_fails_and_says_what_to_look_at() {
    let output = run(
        &["check"],
        &[("DATABASE_URL", "postgres://x:secret@127.0.0.1:1/none")],
    );
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("DATABASE_URL") && !told.contains("secret"),
        "{told}"
    );
}

// Events are taken by one process and delivered by two others; each is sent once, and none of them needs the others to be there.
#[tokio::test]
async fn roles_share_one_postgres() {
    let endpoint = Endpoint::answering(200).await;
    let database = db::database().await;
    let api = App::over(&database, Role::Api, &[]).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(api.accept("{}", &endpoint.url(n)).await);
    }
    let one = App::over(&database, Role::Worker, &[]).await;
    let other = App::over(&database, Role::Worker, &[]).await;
    for id in &ids {
        api.event_when(id, "delivered").await;
    }
    assert_eq!(endpoint.journal.receipts().len(), 10);
    let post = one
        .post(r#"{"payload":1,"target_url":"http://example.com"}"#)
        .await;
    assert_eq!(
        post.status(),
        StatusCode::NOT_FOUND,
        "a worker takes no events"
    );
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
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).expect("a file");
    }

    /// Gives a server a certificate for 127.0.0.1 and turns TLS on.
    async fn secure(&self, server: &Postgres) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let directory = server.data_dir().expect("it was started here");
        let owner = std::fs::metadata(directory).expect("it is there");
        for (name, pem) in [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            let path = directory.join(name);
            std::fs::write(&path, pem).expect("a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
            chown(
                &path,
                Some(Uid::from_raw(owner.uid())),
                Some(Gid::from_raw(owner.gid())),
            )
            .expect("the server's own");
        }
        let pool = db::pool(server.admin_url()).await;
        for sql in ["alter system set ssl = on", "select pg_reload_conf()"] {
            sqlx::raw_sql(sql)
                .execute(&pool)
                .await
                .expect("a superuser may");
        }
    }
}

#[tokio::test]
async fn postgres_is_reached_over_tls_and_a_certificate_of_strangers_is_refused() {
    let Some(own) = own_server().await else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    let (ours, strangers) = (
        files.path().join("ours.pem"),
        files.path().join("strangers.pem"),
    );
    let authority = Authority::new();
    authority.secure(own.postgres()).await;
    authority.write(&ours);
    Authority::new().write(&strangers);
    let database = own.postgres().create_database("tls").await.unwrap();
    let url = |root: &Path| {
        format!(
            "{database}?sslmode=verify-full&sslrootcert={}",
            root.display()
        )
    };

    let app = App::unready(&url(&ours), Role::Serve, &[], &database).await;
    app.until_ready().await;
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)
                     where application_name = 'webhook-dispatcher' and datname = current_database()";
    assert_eq!(
        sqlx::query_scalar::<_, Option<bool>>(encrypted)
            .fetch_one(&app.pool)
            .await
            .unwrap(),
        Some(true)
    );
    app.stop().await;

    let refused = url(&strangers);
    let check = tokio::task::spawn_blocking(move || run(&["check"], &[("DATABASE_URL", &refused)]));
    let output = tokio::time::timeout(PATIENCE, check)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}
