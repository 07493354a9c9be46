//! Tests of the whole crate, in one program: linking takes longer than running.

mod bad_files;
mod common;
mod edits;
mod element_types;
mod external_data;
mod properties;
mod shared_models;
