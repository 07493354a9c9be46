#![forbid(unsafe_code)]
//! Statistics of weights, distribution fits and optimal scalar quantizer design.
//!
//! This is the designing stage of campana: it takes the weights of a group (a
//! tensor, a channel, a run) and gives the levels that quantize them. It knows
//! nothing of models or files, and nothing that it computes needs data beside
//! the weights. Assigning and packing codes is the codebook crate's.
//!
//! | step | items |
//! | --- | --- |
//! | describe | [`Moments`], [`Fits`] (maximum likelihood, exact Kolmogorov–Smirnov D), [`Empirical`] (the error of any codebook at once); [`Summary`] has all three |
//! | solve once per family and bit width | [`lloyd_max`], [`uniform`] |
//! | solve for each fit | [`GeneralizedGaussian`] |
//! | design for a group | [`design()`] by a [`Method`], [`kmeans()`] for any number of levels, [`vector_kmeans()`] for vectors of weights |
//! | predict | [`predicted_mse`], [`predicted_sqnr_db`] |
//!
//! Weights are `f32`, sums are `f64`. All results are the same for any number
//! of threads.
//!
//! ```
//! use campana_design::{Family, Method, Summary, design};
//!
//! let weights: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin().powi(3)).collect();
//! let summary = Summary::of(&weights);
//! assert_eq!(summary.fits().best().family, Family::Laplace);
//!
//! let levels = design(Method::Ks, &summary, 4).levels.values();
//! assert_eq!(levels.len(), 16);
//! let mse = summary.empirical().sse(&levels) / weights.len() as f64;
//! assert!(mse < 0.02 * summary.moments().variance);
//! ```

mod code_bits;
mod distortion;
mod distribution;
mod empirical;
mod entropy_constrained;
mod error;
mod generalized_gaussian;
mod goodness_of_fit;
mod grid;
mod half_line;
pub mod integer_levels;
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
mod vector_kmeans;

pub use code_bits::code_bits;
pub use distortion::{predicted_mse, predicted_sqnr_db};
pub use distribution::{Distribution, Family};
pub use empirical::Empirical;
pub use entropy_constrained::{EntropyConstrained, entropy_constrained};
pub use error::{Error, ErrorKind};
pub use generalized_gaussian::GeneralizedGaussian;
pub use goodness_of_fit::Fits;
pub use kmeans::{KMeans, kmeans, kmeans_levels, kmeans_nearly};
pub use methods::{Design, Levels, Method, UnitTable, design};
pub use moments::Moments;
pub use summary::Summary;
pub use vector_kmeans::vector_kmeans;
