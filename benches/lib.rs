//! The benchmarks live beside this file.
