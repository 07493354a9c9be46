//! Compute kernels: the only crate of campana with `unsafe`.
//!
//! Everything public is safe: slices with checked lengths, a [`Isa`] that
//! only detection constructs, and a [`ThreadPool`] that kernels spread their
//! work over. Images are channels-last inside (`[height, width, channels]`,
//! called NHWC with the batch in front), which lets one kernel serve
//! convolutions of every shape: a convolution is a matrix product whose rows
//! start at the output pixels' windows and whose columns are runs of the
//! window's memory (see [`gemm`]), so that no input is ever rearranged.
//!
//! ```
//! use campana_kernels::{Isa, ThreadPool};
//! use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
//!
//! // [2, 3] x [3, 2]
//! let weights = PackedMatrix::pack(3, 2, |row, column| (row * 2 + column) as f32);
//! let input = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
//! let mut output = [0.0; 4];
//! gemm(
//!     Isa::detect(),
//!     &ThreadPool::serial(),
//!     &input,
//!     Grid::rows(2, 3),
//!     RowRuns::contiguous(3),
//!     &weights,
//!     Epilogue::NONE,
//!     &mut output,
//!     Grid::rows(2, 2),
//! );
//! assert_eq!(output, [0.0, 1.0, 4.0, 5.0]);
//! ```
#![expect(
    clippy::needless_range_loop,
    reason = "constant ranges over register tiles read best as written in formulas"
)]
#![cfg_attr(
    target_feature = "simd128",
    allow(
        dead_code,
        reason = "a module of WebAssembly has one level, and not what others use"
    )
)]

mod aligned;
mod allocation;
mod arch;
mod isa;
mod peak;
mod vector;

pub mod codes;
pub mod depthwise;
pub mod elementwise;
pub mod gemm;
pub mod int8;
pub mod layout;
pub mod pool;
pub mod pooling;
pub mod reference;

pub use aligned::{AlignedBuffer, bytes_of, bytes_of_mut};
pub use allocation::{ReportingAllocator, on_exhausted};
pub use isa::Isa;
pub use peak::Peak;
pub use pool::ThreadPool;
