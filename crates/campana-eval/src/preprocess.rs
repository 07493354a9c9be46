//! From the bytes of a picture to the input of a model.
//!
//! Three steps, each of which does what PIL and torchvision do, so that accuracies can be compared
//! with theirs: decode to 8-bit RGB ([`RgbImage`]), resize and crop ([`resize_region`]), normalize
//! to float ([`preprocess`]).

mod image;
mod normalize;
mod resize;
mod settings;

pub(crate) use image::PngSamples;
pub use image::{MAX_IMAGE_PIXELS, RgbImage};
pub use normalize::{preprocess, preprocess_into};
pub use resize::{Interpolation, Region, resize_region};
pub use settings::{ChannelOrder, Layout, Preprocessing, Resize};
