//! Element types, tensors and the grouping of weights: the vocabulary that
//! every other crate speaks. The first stage of the pipeline, without
//! dependencies on any other crate of campana.
//!
//! ```
//! use campana_tensor::{Granularity, Partition};
//!
//! // A convolution's weights [out, in, kh, kw], one group per output channel.
//! let shape = [16, 3, 3, 3];
//! let partition = Partition::new(&shape, Some(0), Granularity::PerChannel);
//! assert_eq!(partition.group_count(), 16);
//! assert_eq!(partition.group_len(), 27);
//! assert_eq!(partition.group_of(28), 1);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod element_type;
mod fingerprint;
mod group;
mod limits;
mod random;
mod tensor;

pub use element_type::ElementType;
pub use fingerprint::Fingerprint;
pub use group::{Granularity, GroupIndices, Partition};
pub use limits::{Limits, MemoryBudget, MemoryExceeded};
pub use random::SplitMix64;
pub use tensor::{Tensor, TensorData};
