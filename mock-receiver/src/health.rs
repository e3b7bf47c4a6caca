//! The health check of the binary.
