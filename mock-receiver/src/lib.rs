//! mock-receiver
