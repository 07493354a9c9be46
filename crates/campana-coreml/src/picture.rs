//! What a program is told beside the network: its precision, how pictures become
//! values, and the names of classes.

use crate::program::Precision;

/// How a network is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// In what it computes.
    pub precision: Precision,
    /// How pixels become the values of the input, where that is one picture.
    pub image: Option<Image>,
    /// The names of the classes by index; empty where they have none.
    pub labels: Vec<String>,
}

impl Options {
    /// Inputs and outputs as the network has them.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            image: None,
            labels: Vec::new(),
        }
    }
}

/// How pixels become values: `(pixel / 255 - mean) / std` of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The channels' order in the network's input.
    pub channels: Channels,
    /// The axes' order in the network's input.
    pub layout: Layout,
    /// Rows and columns.
    pub size: [usize; 2],
    /// Of each channel, on a scale from 0 to 1.
    pub mean: Vec<f32>,
    /// Of each channel, on a scale from 0 to 1.
    pub std: Vec<f32>,
}

/// The channels of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after their order")]
pub enum Channels {
    Rgb,
    Bgr,
    Gray,
}

impl Channels {
    /// Their number.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }
}

/// The axes of a network's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the axes")]
pub enum Layout {
    Nchw,
    Nhwc,
}
