//! The control of the durability claim: the real dispatcher over a database that replies before its
//! commit is on disk.
//!
//! A trigger turns `synchronous_commit` off for each insert, and the server is stopped immediately.
//! Acknowledged events are lost, and `no_loss` must be invalid. Without the trigger the same run
//! loses no event. No worker runs meanwhile, because any other commit would write the log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chaos::checker::{Tier, Verdict, judge};
use chaos::history::op::{ANSWERED, Op, RecvBegin, RecvEnd, SIG_VALID, Section};
use chaos::nemesis::Schedule;
use chaos::plan::PlannedEvent;
use chaos::profile::Profile;
use chaos::recorder::Recorder;
use chaos::seed::Seed;
use chaos::workload::{Apis, Workload};
use dispatcher::Role;
use mock_receiver::{Moment, Receipt, SignatureCheck};
use tokio::time::Instant;

use crate::support::app::{App, until};
use crate::support::db::dedicated_server;
use crate::support::fixture::Endpoint;

/// Maximum time of the final reads.
const READS_MAX: Duration = Duration::from_secs(60);

/// Replies to the commit of each insert before it is on disk.
const EARLY_REPLIES: &str = "
    create function answer_early() returns trigger language plpgsql as $$
    begin
        perform set_config('synchronous_commit', 'off', true);
        return new;
    end $$;
    create trigger answer_early before insert on webhook_events
        for each row execute function answer_early()";

fn record_receipts(endpoint: &Endpoint, recorder: &Recorder) {
    let recorder = recorder.clone();
    endpoint.journal.observe(Arc::new(move |receipt: &Receipt, moment| {
        let (req, ordinal) = (format!("r{}", receipt.seq), receipt.ordinal);
        recorder.record(match moment {
            Moment::Begin => Op::RecvBegin(RecvBegin {
                req,
                ordinal,
                id: receipt.webhook_id.clone(),
                attempt: receipt.attempt,
                target: receipt.path.clone(),
                sha256: receipt.sha256.clone(),
                sig: match &receipt.signature {
                    SignatureCheck::Valid => SIG_VALID.to_owned(),
                    other => format!("{other:?}"),
                },
                scripted: None,
            }),
            Moment::End => Op::RecvEnd(RecvEnd {
                req,
                ordinal,
                status: receipt.ending.as_ref().and_then(|end| end.whole_status()),
                how: ANSWERED.to_owned(),
            }),
        });
    }));
}

/// Returns the verdict of `no_loss` if the server is stopped immediately after the last 202.
/// Returns `None` if this machine has no server.
async fn judged(trigger: Option<&'static str>) -> Option<Verdict> {
    let mut own = dedicated_server().await?;
    let database = own.create_database("durability").await.unwrap();
    let endpoint = Endpoint::responding_with(200).await;
    let files = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&files.path().join("history.jsonl")).unwrap();
    record_receipts(&endpoint, &recorder);
    let base = endpoint.url(0).trim_end_matches("/0").to_owned();
    let profile = Profile {
        storm_ms: 500,
        receivers: 1,
        payload_bytes_max: 256,
        ..Profile::calm().with_events(60)
    };
    let schedule = Schedule::generate(Seed::new(0xd15c), &profile);
    let (targets, ops) = (Arc::new(vec![base]), Arc::new(AtomicU64::new(1)));
    let workload = |app: &App| {
        let apis = Apis::new([("w0".to_owned(), app.url("").trim_end_matches('/').to_owned())]);
        apis.set_ready("w0", true);
        Workload::new(recorder.clone(), apis, targets.clone(), ops.clone())
    };

    let api = App::over(&database, Role::Api, &[]).await;
    // Otherwise the writer of the log decides by chance whether an event is lost.
    for setting in [
        "alter system set wal_writer_delay = '10s'",
        "select pg_reload_conf()",
        trigger.unwrap_or("select 1"),
    ] {
        sqlx::raw_sql(setting).execute(&api.pool).await.unwrap();
    }
    let events: Vec<&PlannedEvent> = schedule.section(Section::Main).collect();
    workload(&api).run(&events, 4, Instant::now()).await;
    own.stop_at_once().await.unwrap();
    own.bring_up().await.unwrap();
    api.stop().await;

    let app = App::over(&database, Role::Serve, &[]).await;
    until("nothing is pending", || async {
        let pending = "select count(*) from webhook_events where status = 'pending'";
        let left = sqlx::query_scalar::<_, i64>(pending).fetch_one(&app.pool);
        left.await.unwrap() == 0
    })
    .await;
    let until = Instant::now() + READS_MAX;
    workload(&app).read_all(Section::Main, until).await;
    app.stop().await;
    let findings = judge(&recorder.history().unwrap(), Tier::Real);
    let finding = findings.into_iter().find(|f| f.checker == "no_loss");
    Some(finding.unwrap().verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_detects_a_reply_before_the_commit_is_on_disk() {
    let Some(verdict) = judged(Some(EARLY_REPLIES)).await else {
        return;
    };
    assert!(verdict.is_invalid(), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn immediate_stop_of_the_server_loses_no_event() {
    let Some(verdict) = judged(None).await else {
        return;
    };
    assert!(verdict.is_valid(), "{verdict:?}");
}
