//! The structs of the header, laid out as C lays them out.

use std::ffi::{c_char, c_void};

/// `campana_options`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Options {
    pub(crate) struct_size: usize,
    pub(crate) max_memory: u64,
    pub(crate) threads: u32,
    pub(crate) reserved: u32,
}

/// `campana_value`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Value {
    pub(crate) name: *const c_char,
    pub(crate) dims: *const i64,
    pub(crate) element_type: i32,
    pub(crate) rank: i32,
}

/// `campana_tensor`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Tensor {
    pub(crate) name: *const c_char,
    pub(crate) dims: *const i64,
    pub(crate) data: *const c_void,
    pub(crate) len_bytes: usize,
    pub(crate) element_type: i32,
    pub(crate) rank: i32,
}

#[cfg(test)]
mod tests;
