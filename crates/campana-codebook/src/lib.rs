//! The representation of quantized weights: levels and decision thresholds,
//! assignment of weights to codes, packing of codes, and the tensor that
//! holds them. What a device needs and no more: `no_std` with `alloc`.
//!
//! ```
//! use campana_codebook::{Codebook, Packing};
//!
//! let codebook = Codebook::new(vec![-1.5, -0.5, 0.5, 1.5]).unwrap();
//! let mut codes = vec![0; 4];
//! codebook.assign(&[0.4, -2.0, 0.0, 1.1], &mut codes);
//! assert_eq!(codes, [2, 0, 1, 3]); // 0.0 lies on a threshold: the lower level
//!
//! let packing = Packing::densest(codebook.levels().len());
//! let mut packed = vec![0; packing.len_bytes(4)];
//! packing.pack(&codes, &mut packed);
//! assert_eq!(packed.len(), 1);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod assign;
mod codebook;
mod pack;
mod quantized_tensor;
mod storage;
mod vector_codebook;
mod vector_codes;
mod vectorize;

pub use codebook::{Codebook, CodebookError};
pub use pack::{Packing, Unpacker, look_up_rows};
pub use quantized_tensor::{LevelTables, QuantizedTensor, affine_levels, offset_len_bytes};
pub use storage::Storage;
pub use vector_codebook::VectorCodebook;
pub use vector_codes::VectorCodes;
pub use vectorize::vectorized;
