//! A worker that starts just when others come back to the database.

use chaos::links::to_database;
use chaos::proxy::Control;
use dispatcher::Role;

use super::{SHORT, accept, all_begun, outcomes, twice_the_lease_has_passed};
use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Without presence: by it, a worker that is cut off is gone for whoever sees it, at once and by intention.
const BY_LEASE_ALONE: &[(&str, &str)] = &[SHORT[0], SHORT[1], ("PRESENCE", "false")];

// One worker is cut off for longer than its lease, with whole answers in hand. Another, whose own way to the database was
// never cut, starts while the first is about to settle: it must not end those leases first.
#[tokio::test]
async fn a_new_worker_leaves_others_the_time_to_settle_what_they_hold() {
    let endpoint = Endpoint::answering_after(200, 500).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, BY_LEASE_ALONE).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_begun(&endpoint, 5).await;
    link.set(Control::Refuse);
    twice_the_lease_has_passed(&database).await;

    let newcomer = App::over(&database, Role::Worker, BY_LEASE_ALONE).await;
    link.set(Control::Pass);

    for id in &ids {
        let event = app.event_when(id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    let receipts = endpoint.journal.receipts();
    assert_eq!(receipts.len(), 5, "nothing was sent twice");
    newcomer.stop().await;
    app.stop().await;
}
