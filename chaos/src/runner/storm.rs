//! Limits posting and faults during the storm, so that each run ends.
//!
//! Clients of a dispatcher that accepts nothing would otherwise repeat their posts for hours. A
//! part that is cut off is recorded, and the verdict of the run is then unknown.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::limits;
use super::progress::as_us;
use crate::history::op::{BoundReached, Op};
use crate::nemesis::Schedule;
use crate::recorder::Recorder;
use crate::system::SystemError;

/// Waits until the faults and the posts have ended, or until their limits have passed.
///
/// Posts continue while faults run. After the last fault, and the planned time of the storm, they
/// must end within a limit, else `end_posting` makes the clients stop.
///
/// # Errors
/// Returns the error of the faults.
pub(super) async fn run(
    schedule: &Schedule,
    recorder: &Recorder,
    posts: impl Future<Output = ()>,
    end_posting: impl FnOnce(),
    faults: impl Future<Output = Result<(), SystemError>>,
) -> Result<(), SystemError> {
    let faults_ended = CancellationToken::new();
    let planned = sleep(Duration::from_millis(schedule.profile.storm_ms));
    let faults = async {
        let limit = limits::storm(schedule);
        let ended = timeout(limit, faults).await;
        faults_ended.cancel();
        ended.unwrap_or_else(|_| {
            let unfinished = format!("the planned faults did not end within {limit:.1?}");
            reached(recorder, limit, unfinished);
            Ok(())
        })
    };
    let posts = async {
        let mut posts = pin!(posts);
        tokio::select! {
            biased;
            () = &mut posts => return,
            _ = async { tokio::join!(faults_ended.cancelled(), planned) } => {}
        }
        let limit = limits::posting(schedule);
        if timeout(limit, &mut posts).await.is_ok() {
            return;
        }
        let (accepted, planned) = (recorder.progress().0, schedule.events.len());
        let unfinished = format!(
            "posting did not end within {limit:.1?} after the storm: {accepted} of {planned} events \
             were accepted"
        );
        reached(recorder, limit, unfinished);
        end_posting();
        posts.await;
    };
    tokio::join!(posts, faults).1
}

fn reached(recorder: &Recorder, bound: Duration, unfinished: String) {
    eprintln!("{unfinished}");
    recorder.record(Op::BoundReached(BoundReached { bound_us: as_us(bound), unfinished }));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::pending;

    use super::*;
    use crate::profile::Profile;
    use crate::seed::Seed;

    /// Far above the limit of posting.
    const STORM_MS: u64 = 600_000;

    /// Runs a storm in virtual time. Returns the sentences of the bounds that it reached.
    async fn reached_by(
        posts: impl Future<Output = ()>,
        faults: impl Future<Output = Result<(), SystemError>>,
        end_posting: impl FnOnce(),
    ) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&dir.path().join("history.jsonl")).unwrap();
        let profile = Profile { storm_ms: STORM_MS, ..Profile::calm().with_events(5) };
        let schedule = Schedule::generate(Seed::new(1), &profile);
        let ran = run(&schedule, &recorder, posts, end_posting, faults).await;
        ran.unwrap();
        let history = recorder.history().unwrap();
        let sentences = history.entries().iter().filter_map(|entry| match &entry.op {
            Op::BoundReached(reached) => Some(reached.unfinished.clone()),
            _ => None,
        });
        sentences.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endless_posts_are_stopped_after_the_last_fault() {
        let token = CancellationToken::new();
        let clients = token.clone();
        let posts = async move { clients.cancelled().await };
        let reached = reached_by(posts, async { Ok(()) }, || token.cancel()).await;
        assert_eq!(reached.len(), 1);
        let accepted = "0 of 5 events were accepted";
        assert!(reached[0].ends_with(accepted), "{reached:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn posts_continue_until_the_planned_end_without_faults() {
        let posts = sleep(Duration::from_millis(STORM_MS));
        let reached = reached_by(posts, async { Ok(()) }, || ()).await;
        assert!(reached.is_empty(), "{reached:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn endless_faults_are_stopped() {
        let reached = reached_by(async {}, pending(), || ()).await;
        assert_eq!(reached.len(), 1);
        assert!(reached[0].contains("faults did not end"), "{reached:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn storm_that_ends_reaches_no_bound() {
        let end_posting = || panic!("each post has an answer");
        let reached = reached_by(async {}, async { Ok(()) }, end_posting).await;
        assert!(reached.is_empty(), "{reached:?}");
    }
}
