//! The PyPI package `standardwebhooks` verifies live deliveries, as an independent implementation.
//!
//! This needs `python3` with the package. `ORACLE_PYTHON` names another interpreter. Without the
//! package the test is skipped with a message. With `REQUIRE_ORACLE=1` it fails instead.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::app::{App, WAIT_MAX};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/receiver.py");

/// Two secrets, as during a rotation. Both signatures must verify.
const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

struct Oracle {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Oracle {
    async fn start() -> Result<Self, String> {
        let python = std::env::var("ORACLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut process = Command::new(&python)
            .arg(SCRIPT)
            .args(SECRETS)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let port = lines.next_line().await.ok().flatten().and_then(|line| line.parse().ok());
        let port = port.ok_or(format!(
            "{python} has no package standardwebhooks (pip install standardwebhooks)"
        ))?;
        Ok(Self { _process: process, lines, port })
    }
}

#[tokio::test]
async fn independent_implementation_verifies_every_delivery() {
    let mut oracle = match Oracle::start().await {
        Ok(oracle) => oracle,
        Err(reason) => {
            assert!(
                std::env::var("REQUIRE_ORACLE").is_err(),
                "REQUIRE_ORACLE is set, but {reason}"
            );
            eprintln!("skipped: verification by the standardwebhooks package: {reason}");
            return;
        }
    };
    let app = App::start(&[("WEBHOOK_SECRET", &SECRETS.join(", "))]).await;
    let target = format!("http://127.0.0.1:{}/", oracle.port);
    for payload in [r#"{"test": 2432232314}"#, "null", r#""é 😀 \u00e9""#, "[1.0,\n 1e5 ]"] {
        let id = app.accept(payload, &target).await;
        let line = tokio::time::timeout(WAIT_MAX, oracle.lines.next_line())
            .await
            .expect("a request arrives in time");
        assert_eq!(line.unwrap().unwrap(), format!("ok {id}"));
        app.event_with_status(&id, "delivered").await;
    }
    app.stop().await;
}
