//! The `campana` command: trained convolutional networks made small and fast.
//!
//! Exit status: 0 success, 1 a requested bound was not met, 2 an error.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: campana_kernels::ReportingAllocator = campana_kernels::ReportingAllocator;

fn main() -> ExitCode {
    ExitCode::from(campana::main_from(std::env::args_os(), Vec::new()))
}
