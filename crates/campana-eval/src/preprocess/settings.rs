//! What a model expects of its input.

use campana_tensor::Limits;

use super::resize::{Interpolation, Region};
use crate::error::Error;

/// The order of the colour channels in the input of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The order of the axes in the input of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `[N, 3, H, W]`.
    #[default]
    Nchw,
    /// `[N, H, W, 3]`.
    Nhwc,
}

/// How a picture becomes the input of a model: resize, crop at the centre, normalize.
///
/// With `resize_short` the shorter side is resized to it, the longer in proportion, rounded down as
/// torchvision does; then `crop`, or `size` where `crop` is `None`, is cut from the centre. With
/// `crop` alone the picture is only cut. With neither it must have `size` already.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Rows and columns of the model's input.
    pub size: [usize; 2],
    /// What the shorter side is resized to, in pixels.
    pub resize_short: Option<usize>,
    /// Rows and columns cut from the centre; equal to `size`.
    pub crop: Option<[usize; 2]>,
    /// Subtracted from each channel, on the 0-1 scale, in the order of `channels`.
    pub mean: [f32; 3],
    /// What each channel is then divided by, on the 0-1 scale, in the order of `channels`.
    pub std: [f32; 3],
    /// The order of the colour channels.
    pub channels: ChannelOrder,
    /// The order of the axes.
    pub layout: Layout,
    /// The filter of the resize.
    pub interpolation: Interpolation,
}

impl Preprocessing {
    /// Pictures of exactly `size` (rows, columns), red first, `[N, 3, H, W]`, normalized with
    /// `mean` and `std`.
    #[must_use]
    pub fn new(size: [usize; 2], mean: [f32; 3], std: [f32; 3]) -> Self {
        Self {
            size,
            resize_short: None,
            crop: None,
            mean,
            std,
            channels: ChannelOrder::default(),
            layout: Layout::default(),
            interpolation: Interpolation::default(),
        }
    }

    /// How many floats one picture becomes: `3 * H * W`.
    #[must_use]
    pub fn input_len(&self) -> usize {
        3 * self.size[0] * self.size[1]
    }

    /// The shape of the input for `batch` pictures, by the layout.
    #[must_use]
    pub fn input_shape(&self, batch: usize) -> [usize; 4] {
        let [height, width] = self.size;
        match self.layout {
            Layout::Nchw => [batch, 3, height, width],
            Layout::Nhwc => [batch, height, width, 3],
        }
    }

    /// Checks that the values lie in their domains and fit one another.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if a size is zero, above 65,535 or of more pixels than the limits of the
    /// process allow, a deviation is not above zero, a mean
    /// is not finite, `crop` differs from `size`, or `resize_short` is below the shorter side of
    /// `size`.
    pub fn check(&self) -> Result<(), Error> {
        let [height, width] = self.size;
        let side = 1..=usize::from(u16::MAX);
        if !side.contains(&height) || !side.contains(&width) {
            return Err(argument("size", "two sides of 1 to 65535", self.size));
        }
        let limits = Limits::global();
        let max_pixels = limits
            .max_pixels
            .min(limits.max_memory / (3 * size_of::<f32>()));
        if height * width > max_pixels {
            return Err(argument(
                "size",
                &format!("at most {max_pixels} pixels"),
                self.size,
            ));
        }
        if self.mean.iter().any(|mean| !mean.is_finite()) {
            return Err(argument("mean", "three finite numbers", self.mean));
        }
        if self.std.iter().any(|std| !std.is_finite() || *std <= 0.0) {
            return Err(argument("std", "three numbers above 0", self.std));
        }
        if let Some(crop) = self.crop
            && crop != self.size
        {
            return Err(argument(
                "crop",
                &format!("the size of the input, {height} x {width}"),
                crop,
            ));
        }
        if let Some(short) = self.resize_short
            && !(height.min(width)..=usize::from(u16::MAX)).contains(&short)
        {
            return Err(argument(
                "resize_short",
                &format!(
                    "{} (the shorter side of the input) to 65535",
                    height.min(width)
                ),
                short,
            ));
        }
        Ok(())
    }

    /// The size to which a picture of `width x height` is resized, and the part of it that is kept.
    pub(super) fn geometry(
        &self,
        width: usize,
        height: usize,
        name: &str,
    ) -> Result<([usize; 2], Region), Error> {
        let [keep_height, keep_width] = self.size;
        let [resized_width, resized_height] = match self.resize_short {
            None => [width, height],
            // torchvision: int(size * long / short)
            Some(short) if width <= height => [short, short * height / width],
            Some(short) => [short * width / height, short],
        };
        let exact = self.resize_short.is_none() && self.crop.is_none();
        let fits = if exact {
            resized_width == keep_width && resized_height == keep_height
        } else {
            resized_width >= keep_width && resized_height >= keep_height
        };
        if !fits {
            let problem = if exact {
                format!(
                    "expected {keep_width} x {keep_height} pixels, the model's input, found \
                     {width} x {height}, and no resize_short or crop is set"
                )
            } else {
                format!(
                    "expected at least {keep_width} x {keep_height} pixels to crop from, found \
                     {resized_width} x {resized_height}"
                )
            };
            return Err(Error::ImageSize {
                image: name.to_owned(),
                problem,
            });
        }
        let region = Region {
            left: halve(resized_width - keep_width),
            top: halve(resized_height - keep_height),
            width: keep_width,
            height: keep_height,
        };
        Ok(([resized_width, resized_height], region))
    }
}

/// Half of a margin, a half rounded to even: Python's `round(margin / 2)`, as torchvision crops.
fn halve(margin: usize) -> usize {
    let half = margin / 2;
    half + (margin % 2) * (half % 2)
}

fn argument(name: &'static str, expected: &str, found: impl std::fmt::Debug) -> Error {
    Error::Argument {
        name,
        expected: expected.to_owned(),
        found: format!("{found:?}"),
    }
}

/// Values given by hand, which replace those of a sidecar. `None` keeps the sidecar's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreprocessingOverrides {
    /// See [`Preprocessing::size`].
    pub size: Option<[usize; 2]>,
    /// See [`Preprocessing::resize_short`]; 0 turns the resize off.
    pub resize_short: Option<usize>,
    /// See [`Preprocessing::crop`].
    pub crop: Option<[usize; 2]>,
    /// See [`Preprocessing::mean`].
    pub mean: Option<[f32; 3]>,
    /// See [`Preprocessing::std`].
    pub std: Option<[f32; 3]>,
    /// See [`Preprocessing::channels`].
    pub channels: Option<ChannelOrder>,
    /// See [`Preprocessing::layout`].
    pub layout: Option<Layout>,
    /// See [`Preprocessing::interpolation`].
    pub interpolation: Option<Interpolation>,
}

impl PreprocessingOverrides {
    /// The sidecar's values with these in their place.
    ///
    /// Without a sidecar, `size`, `mean` and `std` must be given: a guess would cost accuracy
    /// silently. A new `size` without a new `crop` drops the sidecar's crop, so that `size` is cut.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if a value that is needed is missing, or as [`Preprocessing::check`].
    pub fn apply(&self, sidecar: Option<&Preprocessing>) -> Result<Preprocessing, Error> {
        let needed = |name| Error::Argument {
            name,
            expected: "a value, from a sidecar beside the model or by hand".to_owned(),
            found: "none".to_owned(),
        };
        let mut settings = match sidecar {
            Some(sidecar) => sidecar.clone(),
            None => Preprocessing::new(
                self.size.ok_or_else(|| needed("size"))?,
                self.mean.ok_or_else(|| needed("mean"))?,
                self.std.ok_or_else(|| needed("std"))?,
            ),
        };
        if let Some(size) = self.size {
            settings.size = size;
            // Kept as "crop to whatever the size is".
            settings.crop = settings.crop.map(|_| size);
        }
        match self.resize_short {
            None => {}
            Some(0) => settings.resize_short = None,
            Some(short) => settings.resize_short = Some(short),
        }
        settings.crop = self.crop.or(settings.crop);
        settings.mean = self.mean.unwrap_or(settings.mean);
        settings.std = self.std.unwrap_or(settings.std);
        settings.channels = self.channels.unwrap_or(settings.channels);
        settings.layout = self.layout.unwrap_or(settings.layout);
        settings.interpolation = self.interpolation.unwrap_or(settings.interpolation);
        settings.check()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imagenet() -> Preprocessing {
        Preprocessing {
            resize_short: Some(256),
            ..Preprocessing::new([224, 224], [0.5; 3], [0.5; 3])
        }
    }

    #[test]
    fn the_longer_side_is_rounded_down_and_the_crop_to_even() {
        struct Case {
            from: [usize; 2],
            resized: [usize; 2],
            left_top: [usize; 2],
        }
        // Python: int(256 * long / short) and round((side - 224) / 2), which torchvision computes.
        let cases = [
            Case {
                from: [500, 375],
                resized: [341, 256],
                left_top: [58, 16],
            },
            Case {
                from: [375, 500],
                resized: [256, 341],
                left_top: [16, 58],
            },
            Case {
                from: [343, 256],
                resized: [343, 256],
                left_top: [60, 16],
            },
            Case {
                from: [32, 32],
                resized: [256, 256],
                left_top: [16, 16],
            },
            Case {
                from: [1000, 3],
                resized: [85_333, 256],
                left_top: [42_554, 16],
            },
        ];
        for case in cases {
            let [width, height] = case.from;
            let (resized, region) = imagenet().geometry(width, height, "x").unwrap();
            assert_eq!(resized, case.resized, "{:?}", case.from);
            assert_eq!([region.left, region.top], case.left_top, "{:?}", case.from);
            assert_eq!([region.height, region.width], [224, 224]);
        }
    }

    #[test]
    fn without_resize_or_crop_the_size_must_be_exact() {
        let exact = Preprocessing::new([32, 32], [0.0; 3], [1.0; 3]);
        assert!(exact.geometry(32, 32, "x").is_ok());
        let error = exact.geometry(40, 32, "cat.png").unwrap_err();
        assert_eq!(
            error.to_string(),
            "image cat.png: expected 32 x 32 pixels, the model's input, found 40 x 32, and no \
             resize_short or crop is set"
        );
        assert!(!error.is_skippable());
    }

    #[test]
    fn a_crop_larger_than_the_picture_is_an_error() {
        let crop = Preprocessing {
            crop: Some([32, 32]),
            ..Preprocessing::new([32, 32], [0.0; 3], [1.0; 3])
        };
        assert!(crop.geometry(40, 33, "x").is_ok());
        let error = crop.geometry(40, 31, "x").unwrap_err();
        assert!(error.to_string().contains("found 40 x 31"), "{error}");
    }

    #[test]
    fn values_out_of_their_domain_are_named() {
        type Spoil = fn(&mut Preprocessing);
        let cases: [(&str, Spoil); 6] = [
            ("size", |p| p.size = [0, 4]),
            ("size", |p| p.size = [4, 70_000]),
            ("std", |p| p.std[1] = 0.0),
            ("mean", |p| p.mean[2] = f32::NAN),
            ("crop", |p| p.crop = Some([100, 100])),
            ("resize_short", |p| p.resize_short = Some(200)),
        ];
        for (name, spoil) in cases {
            let mut settings = imagenet();
            spoil(&mut settings);
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: expected ")), "{error}");
        }
    }

    #[test]
    fn overrides_replace_single_values() {
        let overrides = PreprocessingOverrides {
            size: Some([160, 160]),
            resize_short: Some(180),
            channels: Some(ChannelOrder::Bgr),
            ..Default::default()
        };
        let base = Preprocessing {
            crop: Some([224, 224]),
            ..imagenet()
        };
        let settings = overrides.apply(Some(&base)).unwrap();
        assert_eq!(settings.size, [160, 160]);
        assert_eq!(settings.crop, Some([160, 160]));
        assert_eq!(settings.resize_short, Some(180));
        assert_eq!(settings.channels, ChannelOrder::Bgr);
        assert_eq!(settings.mean, base.mean);
    }

    #[test]
    fn without_a_sidecar_the_mean_is_not_guessed() {
        let overrides = PreprocessingOverrides {
            size: Some([32, 32]),
            ..Default::default()
        };
        let error = overrides.apply(None).unwrap_err().to_string();
        assert!(error.starts_with("mean: expected a value"), "{error}");
    }
}
