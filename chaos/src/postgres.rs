//! Finds or starts a Postgres server. The sources in this order: a URL that was given, a container,
//! the server binaries of this machine, and downloaded binaries. One of them is sufficient.
//!
//! Every server that this module starts has fsync on, because a durability proof on a server
//! without it proves nothing. [`Postgres::origin`] names the source in one line.
//! This module must not depend on the dispatcher, its schema or its settings.

mod account;
mod binaries;
#[cfg(feature = "docker")]
mod container;
mod downloaded;
mod error;
mod handle;
mod machine;
mod own;
mod source;
mod wanted;

pub use account::{fallback_directory, reachable_directory};
pub use error::{FailedSource, PostgresError};
pub use handle::{APPLICATION, Postgres, connect};
pub use own::{OwnParts, OwnServer, OwnServerError};
pub use source::holder_of;
pub use wanted::{DATABASE_URL_VARIABLE, Wanted};
