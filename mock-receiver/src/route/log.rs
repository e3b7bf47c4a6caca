//! One line per request, when it has ended. Never a secret, a signature or a body.

use crate::behavior::Behavior;
use crate::journal::{Ending, Receipt, SignatureCheck};

pub(super) fn ended(receipt: &Receipt) {
    let id = receipt.webhook_id.as_deref().unwrap_or("-");
    let attempt = receipt
        .attempt
        .map_or_else(|| "-".to_owned(), |attempt| attempt.to_string());
    let signature = match &receipt.signature {
        SignatureCheck::Valid => "valid".to_owned(),
        SignatureCheck::Invalid { reason } => format!("invalid, {reason}"),
        SignatureCheck::Unchecked { reason } => format!("unchecked, {reason}"),
    };
    let behavior = receipt.behavior.as_ref().map_or("refuse", Behavior::kind);
    let status = receipt.ending.as_ref().and_then(Ending::whole_status);
    let answer = match (&receipt.ending, status) {
        (_, Some(status)) => status.to_string(),
        (Some(ending), None) => format!("{ending:?}"),
        (None, None) => "-".to_owned(),
    };
    let elapsed_ms = receipt
        .end_us
        .unwrap_or(receipt.begin_us)
        .saturating_sub(receipt.head_us)
        / 1000;
    tracing::info!(
        event.id = id,
        event.ordinal = receipt.ordinal,
        attempt,
        signature,
        behavior,
        answer,
        bytes = receipt.bytes,
        elapsed_ms,
        "attempt {attempt}: {answer} after {elapsed_ms} ms"
    );
}
