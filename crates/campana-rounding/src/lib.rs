//! Codes and levels chosen for the error of a layer's *outputs* rather than of
//! its weights.
//!
//! A row of weights `w` that is decoded as `q` changes an output by
//! `(q - w) x`. Over inputs with the layer Hessian (input Gram matrix)
//! `H = E[x x^T]` the mean squared change is the quadratic form
//!
//! ```text
//! (q - w) H (q - w)^T
//! ```
//!
//! Rounding each weight to its nearest level minimizes this only where `H` is
//! diagonal. [`GptqSolver`] rounds the weights of a row one after another, with
//! error feedback from those before (GPTQ, Optimal Brain Quantization); coordinate
//! descent over the codes follows while that lowers the error. [`LevelSystem`]
//! refits the levels to the codes by normal equations. [`VectorRows`] and
//! [`refit_vectors`] do the same for codebooks of vectors.
//!
//! ```
//! use campana_codebook::Codebook;
//! use campana_rounding::{GptqSolver, LayerHessian};
//!
//! // Two inputs that are almost always equal: only the sum of the weights counts.
//! let hessian = LayerHessian::new(2, vec![1.0, 0.99, 0.99, 1.0]);
//! let solver = GptqSolver::new(hessian);
//! let signs = Codebook::new(vec![-1.0, 1.0]).unwrap();
//! let mut codes = [0; 2];
//! solver.round(&[0.4, -0.3], &[&signs], &mut codes);
//! // The nearest levels, 1 and -1.
//! assert_eq!(codes, [1, 0]);
//! solver.round(&[0.4, 0.3], &[&signs], &mut codes);
//! // The nearest levels are 1 and 1, which sum to 2; the weights to 0.7.
//! assert_eq!(codes.iter().sum::<u8>(), 1);
//! ```
#![forbid(unsafe_code)]

mod factor;
mod gptq;
mod hessian;
mod product;
mod rate;
mod refit;
mod rows;
mod vector;
mod vector_refit;
mod vector_rows;

pub use gptq::GptqSolver;
pub use hessian::LayerHessian;
pub use product::{LeftRows, PackedTiles, Sums};
pub use rate::Rate;
pub use refit::{CodedRow, LevelSystem};
pub use rows::RoundedRows;
pub use vector::{add_with_squares, dot, scale_and_center, sum, sum_and_squares};
pub use vector_refit::{AssignedRows, refit_vectors};
pub use vector_rows::VectorRows;
