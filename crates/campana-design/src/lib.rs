#![forbid(unsafe_code)]
//! Statistics of weights, distribution fits and optimal scalar quantizer design.

mod distribution;
mod error;
pub mod lloyd_max;
mod moments;
mod quadrature;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod shared;

pub use distribution::{Distribution, Family};
pub use error::{Error, ErrorKind};
pub use moments::Moments;
