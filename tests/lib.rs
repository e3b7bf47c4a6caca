//! The proofs live in main.rs; this file only makes the package valid.
