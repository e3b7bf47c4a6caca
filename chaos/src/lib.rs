//! chaos

pub mod binary;
pub mod postgres;
pub mod system;
pub mod up;
