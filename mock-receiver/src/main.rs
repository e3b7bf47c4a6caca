//! mock-receiver
fn main() {}
