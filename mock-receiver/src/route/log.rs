//! One log line per ended request, without secrets, signatures and bodies.

use crate::behavior::Behavior;
use crate::check::SignatureCheck;
use crate::journal::Receipt;

pub(super) fn request_ended(receipt: &Receipt) {
    let Some(ending) = &receipt.ending else {
        return;
    };
    let signature = match &receipt.signature {
        SignatureCheck::Valid => "valid".to_owned(),
        SignatureCheck::Invalid { reason } => format!("invalid ({reason})"),
        SignatureCheck::Unchecked { reason } => format!("unchecked ({reason})"),
    };
    let end_us = receipt.end_us.unwrap_or(receipt.begin_us);
    tracing::info!(
        event.id = receipt.webhook_id,
        event.ordinal = receipt.ordinal,
        attempt = receipt.attempt,
        %signature,
        behavior = receipt.behavior.as_ref().map_or("refuse", Behavior::kind),
        bytes = receipt.bytes,
        elapsed_ms = end_us.saturating_sub(receipt.head_us) / 1000,
        "{ending}"
    );
}
