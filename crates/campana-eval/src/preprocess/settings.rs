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
    /// One channel: the luma of ITU-R BT.601, as PIL's mode `L`.
    Grey,
}

/// To what a picture is resized before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resize {
    /// It stays as it is.
    #[default]
    None,
    /// The shorter side to so many pixels, the longer in proportion, rounded down as torchvision
    /// does.
    Short(usize),
    /// To so many rows and columns, whatever the proportions.
    Exact([usize; 2]),
}

/// The order of the axes in the input of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `[N, C, H, W]`.
    #[default]
    Nchw,
    /// `[N, H, W, C]`.
    Nhwc,
}

/// How a picture becomes the input of a model: resize, crop at the centre, normalize.
///
/// After a resize, `crop`, or `size` where `crop` is `None`, is cut from the centre. With `crop`
/// alone the picture is only cut. With neither it must have `size` already.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Rows and columns of the model's input.
    pub size: [usize; 2],
    /// The resize before the cut.
    pub resize: Resize,
    /// Rows and columns cut from the centre; equal to `size`.
    pub crop: Option<[usize; 2]>,
    /// Subtracted from each channel, on the 0-1 scale, in the order of `channels`; of one channel
    /// the first counts.
    pub mean: [f32; 3],
    /// What each channel is then divided by, as `mean`.
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
            resize: Resize::None,
            crop: None,
            mean,
            std,
            channels: ChannelOrder::default(),
            layout: Layout::default(),
            interpolation: Interpolation::default(),
        }
    }

    /// Channels of the input, C: 3, or 1 where it is grey.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        match self.channels {
            ChannelOrder::Rgb | ChannelOrder::Bgr => 3,
            ChannelOrder::Grey => 1,
        }
    }

    /// How many floats one picture becomes: `C * H * W`.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.channel_count() * self.size[0] * self.size[1]
    }

    /// The shape of the input for `batch` pictures, by the layout.
    #[must_use]
    pub fn input_shape(&self, batch: usize) -> [usize; 4] {
        let [height, width] = self.size;
        match self.layout {
            Layout::Nchw => [batch, self.channel_count(), height, width],
            Layout::Nhwc => [batch, height, width, self.channel_count()],
        }
    }

    /// Checks that the values lie in their domains and fit one another.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if a size is zero, above 65,535 or of more pixels than the limits of the
    /// process allow, a deviation is not above zero, a mean
    /// is not finite, `crop` differs from `size`, or the picture is resized to less than `size`.
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
        match self.resize {
            Resize::Short(short)
                if !(height.min(width)..=usize::from(u16::MAX)).contains(&short) =>
            {
                Err(argument(
                    "resize_short",
                    &format!(
                        "{} (the shorter side of the input) to 65535",
                        height.min(width)
                    ),
                    short,
                ))
            }
            Resize::Exact([rows, columns])
                if !(height..=usize::from(u16::MAX)).contains(&rows)
                    || !(width..=usize::from(u16::MAX)).contains(&columns) =>
            {
                Err(argument(
                    "resize",
                    &format!("at least the size of the input, {height} x {width}, at most 65535"),
                    [rows, columns],
                ))
            }
            _ => Ok(()),
        }
    }

    /// The size to which a picture of `width x height` is resized, and the part of it that is kept.
    pub(crate) fn geometry(
        &self,
        width: usize,
        height: usize,
        name: &str,
    ) -> Result<([usize; 2], Region), Error> {
        let [keep_height, keep_width] = self.size;
        let [resized_width, resized_height] = match self.resize {
            Resize::None => [width, height],
            // torchvision: int(size * long / short)
            Resize::Short(short) if width <= height => [short, short * height / width],
            Resize::Short(short) => [short * width / height, short],
            Resize::Exact([rows, columns]) => [columns, rows],
        };
        let exact = self.resize == Resize::None && self.crop.is_none();
        let fits = if exact {
            resized_width == keep_width && resized_height == keep_height
        } else {
            resized_width >= keep_width && resized_height >= keep_height
        };
        if !fits {
            let problem = if exact {
                format!(
                    "expected {keep_width} x {keep_height} pixels, the model's input, found \
                     {width} x {height}, and no resize or crop is set"
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

#[cfg(test)]
mod tests {
    use super::*;

    fn imagenet() -> Preprocessing {
        Preprocessing {
            resize: Resize::Short(256),
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
             resize or crop is set"
        );
        assert!(!error.is_skippable());
    }

    #[test]
    fn an_exact_resize_ignores_proportions() {
        let settings = Preprocessing {
            resize: Resize::Exact([240, 230]),
            ..imagenet()
        };
        let (resized, region) = settings.geometry(17, 500, "x").unwrap();
        assert_eq!(resized, [230, 240]);
        assert_eq!([region.left, region.top], [3, 8]);
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
        let cases: [(&str, Spoil); 7] = [
            ("size", |p| p.size = [0, 4]),
            ("size", |p| p.size = [4, 70_000]),
            ("std", |p| p.std[1] = 0.0),
            ("mean", |p| p.mean[2] = f32::NAN),
            ("crop", |p| p.crop = Some([100, 100])),
            ("resize_short", |p| p.resize = Resize::Short(200)),
            ("resize", |p| p.resize = Resize::Exact([224, 223])),
        ];
        for (name, spoil) in cases {
            let mut settings = imagenet();
            spoil(&mut settings);
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: expected ")), "{error}");
        }
    }
}
