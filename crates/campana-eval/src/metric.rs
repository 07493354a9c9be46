//! Metrics: what a network answers, how often it is right, how far two tensors are apart.

mod accuracy;
mod answer;
mod distortion;
mod latency;

pub use accuracy::{AccuracyTally, Interval, Proportion};
pub use answer::{argmax, in_top, softmax, top};
pub use distortion::Distortion;
pub use latency::Latency;
