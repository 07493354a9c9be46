//! Files of named tensors without a graph: safetensors, NumPy arrays and
//! archives, PyTorch state dicts.
//!
//! Opening a file reads its directory and none of its tensors; each is read by
//! position when it is asked for, so memory does not grow with the file.
//! Nothing in a file is ever executed, and none takes more memory than
//! [`Limits`] allow for its length.
//!
//! ```no_run
//! use campana_formats::TensorFile;
//!
//! let file = TensorFile::open("model.safetensors".as_ref())?;
//! for tensor in file.tensors() {
//!     println!("{} {:?}", tensor.name, tensor.shape);
//! }
//! let weights = file.read_f32(&file.tensors()[0])?;
//! # Ok::<(), campana_formats::Error>(())
//! ```
#![forbid(unsafe_code)]

mod archive;
mod entry;
mod error;
mod format;
mod npy;
mod npz_writer;
mod pickle;
mod place;
mod pytorch;
mod rewrite;
mod safetensors;
mod shards;
mod source;
mod stream;
mod tensor_file;
mod values;
mod writer;

pub use campana_tensor::Limits;
pub use entry::TensorEntry;
pub use error::{Error, ErrorKind, Result};
pub use format::Format;
pub use npz_writer::write_npz;
pub use rewrite::NewValues;
pub use tensor_file::TensorFile;
pub use values::encode_f32;
pub use writer::SafetensorsWriter;
