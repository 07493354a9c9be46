//! What a network is run on: images, given or synthetic, in batches.

use std::borrow::Cow;

use campana_ir::graph::{Dim, Value};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::{Tensor, TensorData};

use crate::correct::images::dead_leaves;

/// Images that run at once.
const BATCH: usize = 16;

/// Pixels of all synthetic images together, and bounds of their number.
const SYNTHETIC_PIXELS: usize = 1 << 21;
const SYNTHETIC_IMAGES: [usize; 2] = [32, 256];

/// Rows and columns of synthetic images where the model does not say.
const DEFAULT_SIZE: [usize; 2] = [224, 224];

/// What the correction sees of a network's inputs.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Nothing: synthetic images, of this size (rows, columns) where the model
    /// leaves its own open.
    Synthetic {
        /// Rows and columns.
        size: Option<[usize; 2]>,
    },
    /// Preprocessed images, shape `[images, ..]` as the model's input.
    Images {
        /// Extents, the number of images first.
        shape: Vec<usize>,
        /// The values, row-major.
        data: Vec<f32>,
    },
}

/// The samples in batches that a model of these inputs takes.
///
/// # Errors
///
/// Where the network has not one image input, or the samples are none for it.
pub fn batches(inputs: &[Value], samples: &Samples) -> Result<Vec<Tensor>, Error> {
    let [input] = inputs else {
        let count = inputs.len();
        return Err(unsupported(format!(
            "the network has {count} inputs, not one for images"
        )));
    };
    let declared = input.shape.as_deref().unwrap_or(&[]);
    let (image, data) = match samples {
        Samples::Images { shape, data } => (
            shape.get(1..).unwrap_or(&[]).to_vec(),
            Cow::Borrowed(data.as_slice()),
        ),
        Samples::Synthetic { size } => {
            let (image, data) = synthetic(declared, *size)?;
            (image, Cow::Owned(data))
        }
    };
    let fixed = match declared.first() {
        Some(Dim::Fixed(batch)) => Some((*batch).max(1)),
        _ => None,
    };
    let image_len: usize = image.iter().product();
    let images = data.len() / image_len.max(1);
    let batch = fixed.unwrap_or(BATCH);
    let whole = if fixed.is_some() {
        images / batch * batch
    } else {
        images
    };
    if whole == 0 {
        return Err(unsupported(format!(
            "{images} images are fewer than one batch of {batch}"
        )));
    }
    Ok(data[..whole * image_len]
        .chunks(batch * image_len)
        .map(|chunk| {
            let shape = [&[chunk.len() / image_len], &*image].concat();
            Tensor::new(shape, TensorData::F32(chunk.to_vec())).expect("whole images")
        })
        .collect())
}

/// Extents of an image, and the images.
fn synthetic(declared: &[Dim], size: Option<[usize; 2]>) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let [_, dims @ ..] = declared else {
        return Err(unsupported("the network does not say what its input is"));
    };
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(extent) => Some(*extent),
        Dim::Symbol(_) => None,
    };
    let &[a, b, c] = &*dims.iter().map(fixed).collect::<Vec<_>>() else {
        return Err(unsupported("the network's input is no image"));
    };
    let is_channels = |extent: Option<usize>| matches!(extent, Some(1 | 3 | 4));
    let [height, width] = size.unwrap_or(DEFAULT_SIZE);
    let (channels, height, width, last) = match (a, b, c) {
        (Some(channels), h, w) if is_channels(a) || !is_channels(c) => {
            (channels, h.unwrap_or(height), w.unwrap_or(width), false)
        }
        (h, w, Some(channels)) => (channels, h.unwrap_or(height), w.unwrap_or(width), true),
        _ => {
            return Err(unsupported(
                "the network does not say which axis its channels are",
            ));
        }
    };
    let pixels = height * width;
    if pixels == 0 || channels == 0 || pixels.saturating_mul(channels) > SYNTHETIC_PIXELS {
        let message = format!("the network's images have {channels} x {height} x {width} values");
        return Err(unsupported(message));
    }
    let [fewest, most] = SYNTHETIC_IMAGES;
    let count = (SYNTHETIC_PIXELS / pixels).clamp(fewest, most);
    let images = dead_leaves(count, channels, height, width);
    if !last {
        return Ok((vec![channels, height, width], images));
    }
    let channels_last = images
        .chunks_exact(channels * pixels)
        .flat_map(|image| {
            (0..pixels * channels).map(move |i| image[i % channels * pixels + i / channels])
        })
        .collect();
    Ok((vec![height, width, channels], channels_last))
}
