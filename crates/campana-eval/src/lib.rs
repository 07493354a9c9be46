//! Datasets, preprocessing and metrics: what turns a network and a folder of
//! pictures into numbers.
#![forbid(unsafe_code)]

mod metric;

pub use metric::{AccuracyTally, Distortion, Interval, Proportion, argmax, in_top, softmax, top};
