#![forbid(unsafe_code)]
//! Planning and execution of CNNs.
