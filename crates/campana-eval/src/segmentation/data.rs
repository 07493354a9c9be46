//! A folder of images and one of masks.

use std::path::{Path, PathBuf};

use super::tally::VOID;
use crate::dataset::list_images;
use crate::error::Error;
use crate::preprocess::{PngSamples, preprocess_into};
use crate::{ImageFailure, Preprocessing, RgbImage, input_file};

/// Names of the folders of images and masks: campana's, those of ADE20K, those of Pascal VOC.
const FOLDERS: [[&str; 2]; 3] = [
    ["images", "masks"],
    ["images", "annotations"],
    ["JPEGImages", "SegmentationClass"],
];

/// Images, and for each a mask: a PNG of the same name and size whose grey or palette values are
/// class numbers, 255 for pixels that count nothing.
#[derive(Clone, Debug)]
pub struct MaskedImages {
    root: PathBuf,
    /// Image and mask, within the root.
    pairs: Vec<[PathBuf; 2]>,
}

/// The class number of each pixel of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mask {
    width: usize,
    height: usize,
    classes: Vec<u16>,
}

impl MaskedImages {
    /// Whether a path is such a folder: one with folders of images and of masks in it (`images` and
    /// `masks`, `images` and `annotations`, or `JPEGImages` and `SegmentationClass`).
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        folders_of(path).is_some()
    }

    /// Lists the images that have a mask.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a folder cannot be read, [`Error::Dataset`] if there are no such folders or
    /// no image has a mask.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let problem = |problem: &str| Error::Dataset {
            dataset: path.display().to_string(),
            problem: problem.to_owned(),
        };
        let [images, masks] = folders_of(path)
            .ok_or_else(|| problem("expected folders images/ and masks/ in it, found none"))?;
        let mut pairs = Vec::new();
        for name in list_images(&path.join(images))? {
            let mask = Path::new(masks).join(name.with_extension("png"));
            if path.join(&mask).is_file() {
                pairs.push([Path::new(images).join(name), mask]);
            }
        }
        if pairs.is_empty() {
            let expected = format!(
                "expected for each of {images}/NAME.jpg or .png a {masks}/NAME.png, found none"
            );
            return Err(problem(&expected));
        }
        Ok(Self {
            root: path.to_owned(),
            pairs,
        })
    }

    /// How many images have a mask, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn image_name(&self, index: usize) -> String {
        self.pairs[index][0].display().to_string()
    }

    /// An image as the network's input, and its mask.
    pub(super) fn read(
        &self,
        index: usize,
        settings: &Preprocessing,
    ) -> Result<(Vec<f32>, Mask), Error> {
        let [image_name, mask_name] = self.pairs[index]
            .each_ref()
            .map(|path| path.display().to_string());
        let [image_path, mask_path] = self.pairs[index]
            .each_ref()
            .map(|path| self.root.join(path));
        let image = RgbImage::decode(&input_file::read(&image_path, usize::MAX)?, &image_name)?;
        let mask = Mask::decode(&input_file::read(&mask_path, usize::MAX)?, &mask_name)?;
        if [mask.width, mask.height] != [image.width(), image.height()] {
            return Err(Error::MalformedImage {
                image: mask_name,
                problem: format!(
                    "expected {} x {} pixels as in {image_name}, found {} x {}",
                    image.width(),
                    image.height(),
                    mask.width,
                    mask.height
                ),
            });
        }
        let mut input = vec![0.0; settings.input_len()];
        preprocess_into(&image, settings, &image_name, &mut input)?;
        Ok((input, mask))
    }

    /// Checks an image's labels against the number of classes.
    pub(super) fn check_labels(
        &self,
        index: usize,
        labels: &[u16],
        class_count: usize,
    ) -> Result<(), Error> {
        let is_wrong = |&&label: &&u16| label != VOID && usize::from(label) >= class_count;
        match labels.iter().find(is_wrong) {
            Some(&label) => Err(Error::LabelOutOfRange {
                dataset: self.root.display().to_string(),
                item: self.pairs[index][1].display().to_string(),
                label: usize::from(label),
                class_count,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn nothing_readable(&self, failures: &[ImageFailure]) -> Error {
        crate::dataset::nothing_readable(&self.root.display().to_string(), failures)
    }
}

fn folders_of(path: &Path) -> Option<[&'static str; 2]> {
    FOLDERS
        .into_iter()
        .find(|pair| pair.iter().all(|folder| path.join(folder).is_dir()))
}

impl Mask {
    /// The raw values of a PNG of one channel or with a palette.
    fn decode(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let png = PngSamples::as_stored(bytes, name, size_of::<u16>())?;
        let (width, height, depth) = (png.width, png.height, png.depth);
        if !matches!(
            png.color,
            png::ColorType::Grayscale | png::ColorType::Indexed
        ) {
            return Err(Error::UnsupportedImage {
                image: name.to_owned(),
                problem: format!(
                    "expected a mask of class numbers (grey or palette), found {:?}",
                    png.color
                ),
            });
        }
        let line = png.bytes.len() / height;
        let rows = png.bytes.chunks_exact(line).take(height);
        let classes = rows.flat_map(|row| (0..width).map(move |column| sample(row, column, depth)));
        Ok(Self {
            width,
            height,
            classes: classes.collect(),
        })
    }

    /// The labels at the centres of the output's pixels, which cover the part of the image that the
    /// network sees.
    pub(super) fn at_output(
        &self,
        settings: &Preprocessing,
        [rows, columns]: [usize; 2],
    ) -> Vec<u16> {
        let Ok(([resized_width, resized_height], region)) =
            settings.geometry(self.width, self.height, "")
        else {
            return vec![VOID; rows * columns];
        };
        let source =
            |at: usize, count: usize, start: usize, len: usize, resized: usize, extent: usize| {
                let position = start as f64 + (at as f64 + 0.5) * len as f64 / count as f64;
                ((position * extent as f64 / resized as f64) as usize).min(extent - 1)
            };
        let mut labels = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let y = source(
                row,
                rows,
                region.top,
                region.height,
                resized_height,
                self.height,
            );
            labels.extend((0..columns).map(|column| {
                let x = source(
                    column,
                    columns,
                    region.left,
                    region.width,
                    resized_width,
                    self.width,
                );
                self.classes[y * self.width + x]
            }));
        }
        labels
    }
}

/// One sample of a row of a PNG with samples of 1, 2, 4, 8 or 16 bits, the first in the high bits.
fn sample(row: &[u8], column: usize, depth: usize) -> u16 {
    match depth {
        16 => u16::from_be_bytes([row[2 * column], row[2 * column + 1]]),
        _ => {
            let bit = column * depth;
            let shift = 8 - depth - bit % 8;
            u16::from(row[bit / 8] >> shift) & ((1 << depth) - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resize;

    fn png(
        color: png::ColorType,
        depth: png::BitDepth,
        [width, height]: [u32; 2],
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![0; 12]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn masks_hold_raw_values_at_every_depth() {
        use png::{BitDepth, ColorType};
        let decode = |bytes: Vec<u8>| Mask::decode(&bytes, "m.png").unwrap().classes;
        let indexed = png(
            ColorType::Indexed,
            BitDepth::Two,
            [3, 2],
            &[0b0001_1000, 0b1101_0000],
        );
        assert_eq!(decode(indexed), [0, 1, 2, 3, 1, 0]);
        let grey = png(ColorType::Grayscale, BitDepth::Eight, [2, 1], &[7, 255]);
        assert_eq!(decode(grey), [7, 255]);
        let deep = png(
            ColorType::Grayscale,
            BitDepth::Sixteen,
            [1, 2],
            &[1, 44, 0, 3],
        );
        assert_eq!(decode(deep), [300, 3]);
    }

    #[test]
    fn colours_are_no_classes() {
        let bytes = png(
            png::ColorType::Rgb,
            png::BitDepth::Eight,
            [1, 1],
            &[1, 2, 3],
        );
        let error = Mask::decode(&bytes, "m.png").unwrap_err();
        assert!(error.to_string().contains("found Rgb"), "{error}");
    }

    #[test]
    fn labels_follow_resize_and_crop() {
        let mask = Mask {
            width: 4,
            height: 2,
            classes: vec![0, 1, 2, 3, 4, 5, 6, 7],
        };
        // Twice as large, then the centre of 4 x 4, then an output of 2 x 2.
        let settings = Preprocessing {
            resize: Resize::Short(4),
            ..Preprocessing::new([4, 4], [0.0; 3], [1.0; 3])
        };
        assert_eq!(mask.at_output(&settings, [2, 2]), [1, 2, 5, 6]);
        assert_eq!(mask.at_output(&settings, [1, 1]), [6]);
    }

    #[test]
    fn images_without_a_mask_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images", "masks"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert!(MaskedImages::is_at(folder.path()));
        for name in ["images/a.jpg", "images/b.png", "masks/b.png"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let data = MaskedImages::open(folder.path()).unwrap();
        assert_eq!(data.len(), 1);
        assert_eq!(data.image_name(0), "images/b.png");
        std::fs::remove_file(folder.path().join("masks/b.png")).unwrap();
        let error = MaskedImages::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("masks/NAME.png"), "{error}");
    }
}
