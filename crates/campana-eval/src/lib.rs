//! Datasets, preprocessing and metrics: what turns a network and a folder of
//! pictures into numbers.
#![forbid(unsafe_code)]

mod error;
mod metric;
mod preprocess;
mod sidecar;

pub use error::{Error, ErrorKind};
pub use metric::{AccuracyTally, Distortion, Interval, Proportion, argmax, in_top, softmax, top};
pub use preprocess::{
    ChannelOrder, Interpolation, Layout, MAX_IMAGE_PIXELS, Preprocessing, PreprocessingOverrides,
    Region, RgbImage, preprocess, preprocess_into, resize_region,
};
pub use sidecar::Sidecar;
