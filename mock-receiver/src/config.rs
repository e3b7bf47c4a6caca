//! The settings of the binary.
