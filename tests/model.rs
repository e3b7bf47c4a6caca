//! The model store against Postgres: random operations of several workers, crashes and jumps of time go
//! into both, and every answer and every row must be equal. So what the simulation proves over the
//! model holds for the SQL that runs in production.
//!
//! The SQL is the production's own: a schema before `pg_catalog` in the search path brings its own
//! `now()`, and the test moves it.

mod both;
mod drive;
mod rows;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::both::{Both, Done};

/// Sequences of operations that are driven into both stores.
const SEQUENCES: u32 = 60;
/// Operations of one sequence at most.
const OPERATIONS_MAX: usize = 60;
/// Workers that take part.
const WORKERS: u8 = 3;

/// One operation, in small numbers that `drive` interprets by what there is.
#[derive(Clone, Debug)]
enum Operation {
    Insert {
        key: Option<u8>,
        payload: u8,
        given: bool,
    },
    Claim {
        worker: u8,
        limit: usize,
        from_ms: Option<i64>,
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
    Absent,
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
    prop_oneof![
        3 => (key, 0_u8..2, any::<bool>())
            .prop_map(|(key, payload, given)| Insert { key, payload, given }),
        4 => (worker.clone(), 1_usize..5, from, 100_u64..3_000)
            .prop_map(|(worker, limit, from_ms, lease_ms)| Claim { worker, limit, from_ms, lease_ms }),
        4 => (any::<u8>(), 1_usize..4, any::<u8>())
            .prop_map(|(first, count, end)| Settle { first, count, end }),
        1 => any::<u8>().prop_map(|which| SettleAgain { which }),
        1 => (any::<u8>(), 1_usize..3, 0_u64..2_000)
            .prop_map(|(first, count, delay_ms)| Release { first, count, delay_ms }),
        2 => jitters().prop_map(|jitters| ReclaimExpired { jitters }),
        2 => (worker.clone(), jitters())
            .prop_map(|(worker, jitters)| ReclaimGone { worker, jitters }),
        1 => worker.clone().prop_map(|worker| Join { worker }),
        1 => worker.clone().prop_map(|worker| Vanish { worker }),
        1 => worker.prop_map(|worker| Forget { worker }),
        1 => Just(Absent),
        1 => (-2_000_i64..2_000).prop_map(|after_ms| NextDue { after_ms }),
        3 => (-1_500_i64..4_000).prop_map(|by_ms| Jump { by_ms }),
    ]
}

/// What chance alone comes to too rarely: a keyed event posted again, a holder that is seen absent, an event that is
/// abandoned until it is dead, and a claim that begins behind an event.
fn rare_ways() -> Vec<Operation> {
    let insert = Operation::Insert {
        key: Some(0),
        payload: 0,
        given: true,
    };
    let claim = Operation::Claim {
        worker: 0,
        limit: 1,
        from_ms: None,
        lease_ms: 100,
    };
    let later = Operation::Jump { by_ms: 3_000 };
    let reclaim = Operation::ReclaimExpired { jitters: vec![4] };
    let abandoned = [claim, later.clone(), reclaim, later.clone()];
    let absent = [
        Operation::Join { worker: 0 },
        Operation::Vanish { worker: 0 },
        Operation::Absent,
    ];
    let twice = [abandoned.clone(), abandoned].concat();
    let another = Operation::Insert {
        key: None,
        payload: 0,
        given: true,
    };
    let behind = Operation::Claim {
        worker: 0,
        limit: 2,
        from_ms: Some(-100),
        lease_ms: 100,
    };
    let two = [another.clone(), later, another, behind];
    [
        vec![insert.clone(), insert],
        absent.to_vec(),
        twice,
        two.to_vec(),
    ]
    .concat()
}

#[test]
fn the_model_and_postgres_give_the_same_answers_and_keep_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Connections are closed inside of the runtime, also when a comparison panics.
    let _inside = runtime.enter();
    let mut both = runtime.block_on(Both::open());
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let done = std::cell::RefCell::new(Done::default());
    let shared = std::cell::RefCell::new(&mut both);
    let drive = |operations: Vec<Operation>| {
        let mut both = shared.borrow_mut();
        runtime.block_on(async {
            both.begin_again().await;
            for operation in &operations {
                let what = both.drive(operation).await;
                let what =
                    what.map_err(|why| TestCaseError::fail(format!("{operation:?}: {why}")))?;
                done.borrow_mut().note(what);
                both.compare()
                    .await
                    .map_err(|why| TestCaseError::fail(format!("after {operation:?}: {why}")))?;
            }
            Ok(())
        })
    };
    drive(rare_ways()).expect("both stores agree on the rare ways");
    let outcome = runner.run(&vec(operation(), 1..OPERATIONS_MAX), drive);
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(
        done.borrow().missing(),
        Vec::<&str>::new(),
        "never succeeded"
    );
}
