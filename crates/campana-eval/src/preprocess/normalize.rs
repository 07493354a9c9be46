//! 8-bit pixels to the floats that a model takes.

use super::image::RgbImage;
use super::resize::resize_region;
use super::settings::{ChannelOrder, Layout, Preprocessing};
use crate::error::Error;

/// Resizes, crops and normalizes a picture: `[C, H, W]` or `[H, W, C]` by the layout.
///
/// A sample x becomes `(x / 255 - mean) / std` in `f32`, as torchvision computes it. `name` stands
/// in the errors.
///
/// # Errors
///
/// [`Error::ImageSize`] if the picture does not come out at the model's size, [`Error::Argument`] if
/// the settings do not pass [`Preprocessing::check`].
pub fn preprocess(
    image: &RgbImage,
    settings: &Preprocessing,
    name: &str,
) -> Result<Vec<f32>, Error> {
    settings.check()?;
    let mut input = vec![0.0; settings.input_len()];
    preprocess_into(image, settings, name, &mut input)?;
    Ok(input)
}

/// [`preprocess`] into a slice of [`Preprocessing::input_len`] floats.
///
/// # Errors
///
/// As [`preprocess`].
///
/// # Panics
///
/// If the slice has another length.
pub fn preprocess_into(
    image: &RgbImage,
    settings: &Preprocessing,
    name: &str,
    input: &mut [f32],
) -> Result<(), Error> {
    settings.check()?;
    assert_eq!(input.len(), settings.input_len(), "one picture's input");
    let ([width, height], region) = settings.geometry(image.width(), image.height(), name)?;
    if [region.width, region.height] == [image.width(), image.height()]
        && [width, height] == [image.width(), image.height()]
    {
        normalize(image.pixels(), settings, input);
    } else {
        let resized = resize_region(image, width, height, region, settings.interpolation);
        normalize(resized.pixels(), settings, input);
    }
    Ok(())
}

fn normalize(pixels: &[u8], settings: &Preprocessing, input: &mut [f32]) {
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        std::array::from_fn(|sample| {
            (sample as f32 / 255.0 - settings.mean[channel]) / settings.std[channel]
        })
    });
    let [first, second, third] = match settings.channels {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
        ChannelOrder::Grey => {
            for (slot, pixel) in input.iter_mut().zip(pixels.chunks_exact(3)) {
                *slot = tables[0][usize::from(luma(pixel))];
            }
            return;
        }
    };
    let values = pixels.chunks_exact(3).map(|pixel| {
        [
            tables[0][usize::from(pixel[first])],
            tables[1][usize::from(pixel[second])],
            tables[2][usize::from(pixel[third])],
        ]
    });
    match settings.layout {
        Layout::Nchw => {
            let (plane0, rest) = input.split_at_mut(pixels.len() / 3);
            let (plane1, plane2) = rest.split_at_mut(pixels.len() / 3);
            let planes = plane0.iter_mut().zip(plane1).zip(plane2);
            for (((slot0, slot1), slot2), value) in planes.zip(values) {
                [*slot0, *slot1, *slot2] = value;
            }
        }
        Layout::Nhwc => {
            for (slots, value) in input.chunks_exact_mut(3).zip(values) {
                slots.copy_from_slice(&value);
            }
        }
    }
}

/// The luma of ITU-R BT.601 of a red, green and blue pixel, in the fixed-point arithmetic of PIL's
/// conversion to mode `L`; that of a grey pixel is its value.
fn luma(pixel: &[u8]) -> u8 {
    let parts = pixel.iter().zip([19_595u32, 38_470, 7471]);
    let sum: u32 = parts
        .map(|(&sample, weight)| u32::from(sample) * weight)
        .sum();
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_pixels() -> RgbImage {
        RgbImage::new(2, 1, vec![0, 51, 255, 10, 20, 30])
    }

    fn plain() -> Preprocessing {
        Preprocessing::new([1, 2], [0.0; 3], [1.0 / 255.0; 3])
    }

    #[test]
    fn planes_come_one_after_another() {
        let input = preprocess(&two_pixels(), &plain(), "x").unwrap();
        let rounded: Vec<f32> = input.iter().map(|value| value.round()).collect();
        assert_eq!(rounded, [0.0, 10.0, 51.0, 20.0, 255.0, 30.0]);
    }

    #[test]
    fn channels_last_and_blue_first() {
        let settings = Preprocessing {
            channels: ChannelOrder::Bgr,
            layout: Layout::Nhwc,
            ..plain()
        };
        let input = preprocess(&two_pixels(), &settings, "x").unwrap();
        let rounded: Vec<f32> = input.iter().map(|value| value.round()).collect();
        assert_eq!(rounded, [255.0, 51.0, 0.0, 30.0, 20.0, 10.0]);
    }

    #[test]
    fn mean_and_deviation_follow_the_order_of_the_channels() {
        let settings = Preprocessing {
            channels: ChannelOrder::Bgr,
            ..Preprocessing::new([1, 2], [1.0, 0.2, 0.0], [0.5, 1.0, 1.0])
        };
        let input = preprocess(&two_pixels(), &settings, "x").unwrap();
        assert_eq!(input[0], 0.0);
        assert_eq!(input[1], (30.0 / 255.0 - 1.0) / 0.5);
        assert_eq!(input[2], 51.0 / 255.0 - 0.2);
        assert_eq!(input[4], 0.0);
    }

    #[test]
    fn grey_is_the_luma_of_pil() {
        let settings = Preprocessing {
            channels: ChannelOrder::Grey,
            ..plain()
        };
        let input = preprocess(&two_pixels(), &settings, "x").unwrap();
        let rounded: Vec<f32> = input.iter().map(|value| value.round()).collect();
        // Image.fromarray([[[0, 51, 255], [10, 20, 30]]]).convert("L")
        assert_eq!(rounded, [59.0, 18.0]);
        assert!((0..=255u8).all(|value| luma(&[value; 3]) == value));
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let settings = Preprocessing {
            crop: Some([9, 9]),
            ..plain()
        };
        assert!(preprocess(&two_pixels(), &settings, "x").is_err());
    }
}
