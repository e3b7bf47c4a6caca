//! Failures of the harness, the system or the machine. A run that fails has no verdict.

use std::io;

use crate::audit::AuditError;
use crate::system::SystemError;

/// A failure because of which a run has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The driver failed.
    #[error("{operation}")]
    System {
        /// The failed operation.
        operation: &'static str,
        /// The error of the driver.
        source: SystemError,
    },
    /// A statement of the audit failed.
    #[error("{operation}")]
    Audit {
        /// The failed operation.
        operation: &'static str,
        /// The error of the audit.
        source: AuditError,
    },
    /// A system call failed.
    #[error("{operation}")]
    Io {
        /// The failed operation.
        operation: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl RunError {
    pub(super) fn system(operation: &'static str) -> impl Fn(SystemError) -> Self {
        move |source| Self::System { operation, source }
    }

    pub(super) fn audit(operation: &'static str) -> impl Fn(AuditError) -> Self {
        move |source| Self::Audit { operation, source }
    }

    pub(super) fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}
