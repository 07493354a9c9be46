//! The C interface of campana, declared and documented in
//! `include/campana.h`: models open, say what they take and give, and run. A
//! binding without any algorithm over the crates that deployed programs need.
//!
//! `exports` is the boundary: what C calls, and the only `unsafe` of the crate.
//! All else sees bytes, numbers and text that have been checked. A handle that
//! C holds is a number that was given out once, not an address, so that one
//! that was freed is found out (`handles`).
#![deny(unsafe_code)]

#[cfg(panic = "abort")]
compile_error!("built with panic = \"abort\", a panic would end the program that calls");

mod exports;
mod failure;
mod handles;
mod layout;
mod session;
mod tensor;
