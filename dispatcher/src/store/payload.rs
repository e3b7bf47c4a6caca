//! Reads a piece of a large payload, for an event that this worker has claimed. Changes nothing.

use sqlx::PgConnection;

use crate::event::ClaimKey;

const PIECE: &str = "
select substr(payload, $3, $4) from webhook_events where id = $1 and lease_token = $2";

/// Returns `None` if the lease has ended.
pub(super) async fn piece(
    db: &mut PgConnection,
    key: ClaimKey,
    from: usize,
    length: usize,
) -> sqlx::Result<Option<Vec<u8>>> {
    let count = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    sqlx::query_scalar(PIECE)
        .bind(key.id.0)
        .bind(key.token.0)
        .bind(count(from + 1))
        .bind(count(length))
        .fetch_optional(db)
        .await
}
