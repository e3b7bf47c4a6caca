//! Compares the model store with Postgres.
//!
//! The same random operations of several workers, with lost sessions and jumps of time, run on both
//! stores. Every result and every row must be equal. So the proofs of the simulation also hold for
//! the production SQL. A schema before `pg_catalog` in the search path defines the `now()` that the
//! test sets. The statements are unchanged.

mod both;
mod drive;
mod rows;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::both::{Both, Coverage};

/// Number of random sequences of operations.
const SEQUENCES: u32 = 60;
/// Maximum length of one sequence.
const OPERATIONS_MAX: usize = 60;
/// Number of workers.
const WORKERS: u8 = 3;

/// A range of due times as times that have passed since them, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct RangeMs {
    newest: u64,
    oldest: Option<u64>,
}

/// One operation. `drive` maps its small numbers to the existing events, claims and workers.
#[derive(Clone, Debug)]
enum Operation {
    Insert {
        key: Option<u8>,
        payload: u8,
        given: bool,
        /// Worker and lease time in milliseconds of an event that is stored with a lease.
        leased: Option<(u8, u64)>,
    },
    Claim {
        worker: u8,
        limit: usize,
        from_ms: Option<i64>,
        range: Option<RangeMs>,
        lease_ms: u64,
    },
    Settle {
        first: u8,
        count: usize,
        end: u8,
    },
    SettleAgain {
        which: u8,
    },
    Release {
        first: u8,
        count: usize,
        delay_ms: u64,
    },
    ReclaimExpired {
        jitters: Vec<u8>,
        range: Option<RangeMs>,
    },
    ReclaimGone {
        worker: u8,
        jitters: Vec<u8>,
    },
    Join {
        worker: u8,
    },
    Vanish {
        worker: u8,
    },
    Forget {
        worker: u8,
    },
    OwnLeases {
        worker: u8,
        from_ms: Option<i64>,
    },
    Absent,
    /// An operator sets `attempt_count` to zero, so the numbers of the next attempts exist already.
    Rewind {
        which: u8,
    },
    NextDue {
        after_ms: i64,
    },
    Jump {
        by_ms: i64,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let worker = 0..WORKERS;
    let jitters = || vec(0_u8..=8, 1..6);
    let key = prop::option::weighted(0.4, 0_u8..4);
    let from = prop::option::weighted(0.4, -2_000_i64..100);
    let leased = prop::option::weighted(0.3, (worker.clone(), 100_u64..3_000));
    prop_oneof![
        3 => (key, 0_u8..2, any::<bool>(), leased)
            .prop_map(|(key, payload, given, leased)| Insert { key, payload, given, leased }),
        4 => (worker.clone(), 1_usize..5, from, range(), 100_u64..3_000).prop_map(
            |(worker, limit, from_ms, range, lease_ms)| Claim { worker, limit, from_ms, range, lease_ms }
        ),
        4 => (any::<u8>(), 1_usize..4, any::<u8>())
            .prop_map(|(first, count, end)| Settle { first, count, end }),
        1 => any::<u8>().prop_map(|which| SettleAgain { which }),
        1 => (any::<u8>(), 1_usize..3, 0_u64..2_000)
            .prop_map(|(first, count, delay_ms)| Release { first, count, delay_ms }),
        2 => (jitters(), range()).prop_map(|(jitters, range)| ReclaimExpired { jitters, range }),
        2 => (worker.clone(), jitters())
            .prop_map(|(worker, jitters)| ReclaimGone { worker, jitters }),
        1 => worker.clone().prop_map(|worker| Join { worker }),
        1 => worker.clone().prop_map(|worker| Vanish { worker }),
        1 => worker.clone().prop_map(|worker| Forget { worker }),
        1 => (worker, prop::option::of(-2_000_i64..100))
            .prop_map(|(worker, from_ms)| OwnLeases { worker, from_ms }),
        1 => Just(Absent),
        1 => any::<u8>().prop_map(|which| Rewind { which }),
        1 => (-2_000_i64..2_000).prop_map(|after_ms| NextDue { after_ms }),
        3 => (-1_500_i64..4_000).prop_map(|by_ms| Jump { by_ms }),
    ]
}

fn range() -> impl Strategy<Value = Option<RangeMs>> {
    let width = prop::option::of(0_u64..2_000);
    let range = (0_u64..2_000, width)
        .prop_map(|(newest, width)| RangeMs { newest, oldest: width.map(|width| newest + width) });
    prop::option::weighted(0.3, range)
}

/// A sequence of the cases that random operations reach too rarely: a repeated idempotency key, an
/// absent worker, an event that becomes dead by abandoned attempts, attempts whose numbers exist
/// already, a claim whose scan start is after a due event, and a search for leases that finds one.
fn rare_cases() -> Vec<Operation> {
    let insert = Operation::Insert { key: Some(0), payload: 0, given: true, leased: None };
    let claim = Operation::Claim { worker: 0, limit: 1, from_ms: None, range: None, lease_ms: 100 };
    let later = Operation::Jump { by_ms: 3_000 };
    let reclaim = Operation::ReclaimExpired { jitters: vec![4], range: None };
    // The last abandonment makes the event dead, so a failure ends the row of abandonments.
    let failure = Operation::Settle { first: 0, count: 1, end: 3 };
    let rewind = Operation::Rewind { which: 0 };
    let unrecorded = [
        claim.clone(),
        failure.clone(),
        later.clone(),
        rewind.clone(),
        claim.clone(),
        failure.clone(),
        later.clone(),
        rewind,
        claim.clone(),
        later.clone(),
        reclaim.clone(),
        later.clone(),
        claim.clone(),
        failure,
        later.clone(),
    ];
    let abandoned = [claim, later.clone(), reclaim, later.clone()];
    let absent =
        [Operation::Join { worker: 0 }, Operation::Vanish { worker: 0 }, Operation::Absent];
    let twice = [abandoned.clone(), abandoned].concat();
    let another = Operation::Insert { key: None, payload: 0, given: true, leased: None };
    let behind =
        Operation::Claim { worker: 0, limit: 2, from_ms: Some(-100), range: None, lease_ms: 100 };
    let own = Operation::OwnLeases { worker: 0, from_ms: None };
    let two = [another.clone(), later, another, behind, own];
    [vec![insert.clone(), insert], absent.to_vec(), unrecorded.to_vec(), twice, two.to_vec()]
        .concat()
}

// A difference would make every proof of the simulation invalid for the production SQL.
#[test]
fn model_and_postgres_return_the_same_results_and_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The connections must be closed inside the runtime, also if a comparison panics.
    let _guard = runtime.enter();
    let mut both = runtime.block_on(Both::open());
    let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let coverage = std::cell::RefCell::new(Coverage::default());
    let shared = std::cell::RefCell::new(&mut both);
    let drive = |operations: Vec<Operation>| {
        let mut both = shared.borrow_mut();
        runtime.block_on(async {
            both.reset().await;
            for operation in &operations {
                let differs =
                    |difference| TestCaseError::fail(format!("after {operation:?}: {difference}"));
                let effects = both.drive(operation).await.map_err(differs)?;
                coverage.borrow_mut().add(effects);
                both.compare().await.map_err(differs)?;
            }
            Ok(())
        })
    };
    drive(rare_cases()).expect("both stores agree on the rare cases");
    let outcome = runner.run(&vec(operation(), 1..OPERATIONS_MAX), drive);
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(coverage.borrow().missing(), Vec::<&str>::new(), "effects that no operation had");
}
