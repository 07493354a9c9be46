#![forbid(unsafe_code)]
//! Statistics of weights, distribution fits and optimal scalar quantizer design.

mod distortion;
mod distribution;
mod empirical;
mod error;
mod goodness_of_fit;
mod grid;
mod half_line;
mod kmeans;
pub mod lloyd_max;
mod methods;
mod moments;
mod order;
mod quadrature;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod shared;
mod summary;
pub mod uniform;
mod vectorize;

pub use distortion::{predicted_mse, predicted_sqnr_db};
pub use distribution::{Distribution, Family};
pub use empirical::Empirical;
pub use error::{Error, ErrorKind};
pub use goodness_of_fit::Fits;
pub use kmeans::{KMeans, kmeans, kmeans_levels};
pub use methods::{Design, Levels, Method, UnitTable, design};
pub use moments::Moments;
pub use summary::Summary;
