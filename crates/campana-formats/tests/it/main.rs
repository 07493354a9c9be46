//! Files of tensors, good and bad, made here byte by byte.

mod bad_files;
mod reading;
mod rewriting;
mod support;
