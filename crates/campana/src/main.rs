//! The `campana` command.
#![forbid(unsafe_code)]

fn main() {}
