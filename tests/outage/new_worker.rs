//! A worker that starts when another one is about to reconnect to the database.

use chaos::links::to_database;
use chaos::proxy::Control;
use dispatcher::Role;

use super::{SHORT, accept, all_requests_arrived, outcomes, twice_the_lease_has_passed};
use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Without presence, because with it another worker reclaims from a worker that is cut off, as
/// intended.
const WITHOUT_PRESENCE: &[(&str, &str)] = &[SHORT[0], SHORT[1], ("PRESENCE", "false")];

// One worker is cut off for longer than its lease and holds complete responses. A second worker
// without an outage starts before the first one settles. It must not reclaim those leases first.
#[tokio::test]
async fn new_worker_leaves_others_time_to_settle() {
    let endpoint = Endpoint::responding_after(200, 500).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, WITHOUT_PRESENCE).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_requests_arrived(&endpoint, 5).await;
    link.set(Control::Refuse);
    twice_the_lease_has_passed(&database).await;

    let new_worker = App::over(&database, Role::Worker, WITHOUT_PRESENCE).await;
    link.set(Control::Pass);

    for id in &ids {
        let event = app.event_with_status(id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    let receipts = endpoint.journal.receipts();
    assert_eq!(receipts.len(), 5, "number of requests");
    new_worker.stop().await;
    app.stop().await;
}
