//! The container for shipping quantized models: any file, byte for byte, with
//! its packed codes and float values entropy-coded. What a device needs to
//! read it and no more: `no_std` with `alloc`.
//!
//! A file is a sequence of [`Piece`]s. [`pack`] codes each as its kind asks
//! for; [`unpack`] gives the file back. The format is described byte for byte
//! in `docs/container-format.md`.
//!
//! ```
//! use campana_codebook::Packing;
//! use campana_container::{Limits, Piece, pack, unpack};
//!
//! let codes = vec![0b00_00_01_00; 1000];
//! let pieces = [
//!     Piece::Text(b"a header"),
//!     Piece::Codes { packed: &codes, packing: Packing::densest(4), row_len: 40 },
//! ];
//! let packed = pack(&pieces);
//! assert!(packed.len() < codes.len());
//! let file = unpack(&packed, &Limits::default())?;
//! assert_eq!(file[..8], *b"a header");
//! assert_eq!(file[8..], codes);
//! # Ok::<(), campana_container::Error>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entropy;
mod error;
mod format;
mod read;
mod write;

pub use campana_tensor::Limits;
pub use error::{Error, ErrorKind};
pub use format::MAGIC;
pub use read::{unpack, unpacked_len};
pub use write::{Piece, pack};
