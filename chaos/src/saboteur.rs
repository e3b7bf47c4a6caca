//! Saboteurs: deliberately broken dispatchers, each with the checker that must catch it.
//!
//! They run under the same runner, receivers and checkers as the real system, so that a checker that
//! lets one through is seen. A saboteur is a [`Lie`] told by a small stand-in dispatcher; without a lie
//! the stand-in is honest, and every checker must say so. Nothing here is a model of the dispatcher.

mod api;
mod budget;
mod delivery;
pub mod lie;
mod register;
pub mod stand_in;
pub mod table;

pub mod acknowledges_before_commit;
pub mod calls_500_success;
pub mod calls_timeout_success;
pub mod counts_a_retry_as_the_first;
pub mod forgets_after_202;
pub mod forgets_keys;
pub mod gives_up_early;
pub mod ignores_other_bytes;
pub mod ignores_retry_after;
pub mod ignores_the_host_cap;
pub mod ignores_the_lease;
pub mod never_reclaims;
pub mod reserializes;
pub mod retries_without_backoff;
pub mod says_delivered_unsent;
pub mod sends_elsewhere;
pub mod signs_wrongly;
pub mod takes_half_a_body;

pub use budget::Budget;
pub use lie::{Honest, Lie, Outcome, Replies};
pub use register::{SABOTEURS, Saboteur};
pub use stand_in::StandIn;
