//! Compute kernels: the only crate with `unsafe`.
