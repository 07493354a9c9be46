#![forbid(unsafe_code)]
//! Statistics of weights, distribution fits and optimal scalar quantizer design.

mod distribution;
mod empirical;
mod error;
mod goodness_of_fit;
mod grid;
mod kmeans;
pub mod lloyd_max;
mod moments;
mod order;
mod quadrature;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod shared;

pub use distribution::{Distribution, Family};
pub use empirical::Empirical;
pub use error::{Error, ErrorKind};
pub use goodness_of_fit::Fits;
pub use kmeans::{KMeans, kmeans, kmeans_levels};
pub use moments::Moments;
