//! Empty: the tests are in `main.rs`. Cargo requires a library or a binary in each package.
