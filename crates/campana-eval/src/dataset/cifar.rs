//! The binary versions of CIFAR-10 and CIFAR-100.
//!
//! # References
//!
//! A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), and the notes on
//! the binary version that come with the data.

use std::borrow::Cow;

use super::options::{DatasetFormat, DatasetOptions};
use crate::error::Error;
use crate::preprocess::RgbImage;

const SIDE: usize = 32;
const PLANE_LEN: usize = SIDE * SIDE;
const PIXELS_LEN: usize = 3 * PLANE_LEN;

const FINE_CLASSES_10: usize = 10;
const COARSE_CLASSES_100: usize = 20;
const FINE_CLASSES_100: usize = 100;

/// The records of a file, in memory.
#[derive(Debug)]
pub(super) struct CifarRecords {
    bytes: Cow<'static, [u8]>,
    label_bytes: usize,
}

impl CifarRecords {
    /// Recognizes the records unless the format is given, and checks their number and labels.
    pub(super) fn new(
        bytes: Cow<'static, [u8]>,
        dataset: &str,
        options: &DatasetOptions<'_>,
    ) -> Result<(DatasetFormat, Self), Error> {
        let problem = |problem: String| Error::Dataset {
            dataset: dataset.to_owned(),
            problem,
        };
        if bytes.is_empty() {
            return Err(problem("expected records, found an empty file".to_owned()));
        }
        let whole = |label_bytes: usize| bytes.len().is_multiple_of(label_bytes + PIXELS_LEN);
        let format = match options.format {
            Some(format) => format,
            None => match (whole(1), whole(2)) {
                (true, false) => DatasetFormat::Cifar10,
                (false, true) => DatasetFormat::Cifar100,
                (false, false) => {
                    return Err(problem(format!(
                        "expected a JPEG, a PNG, or a whole number of records of {} (CIFAR-10) or \
                         {} bytes (CIFAR-100), found {} bytes",
                        1 + PIXELS_LEN,
                        2 + PIXELS_LEN,
                        bytes.len()
                    )));
                }
                // Of pixels read as labels some are soon out of range, so one of the two fails.
                (true, true) => match (labels_fit_10(&bytes), labels_fit_100(&bytes)) {
                    (true, false) => DatasetFormat::Cifar10,
                    (false, true) => DatasetFormat::Cifar100,
                    _ => {
                        return Err(problem(format!(
                            "expected CIFAR-10 or CIFAR-100 records, found {} bytes and labels \
                             that do not tell them apart; give the format",
                            bytes.len()
                        )));
                    }
                },
            },
        };
        let (label_bytes, own_classes) = if format == DatasetFormat::Cifar100 {
            (2, FINE_CLASSES_100)
        } else {
            (1, FINE_CLASSES_10)
        };
        if !whole(label_bytes) {
            return Err(problem(format!(
                "expected a whole number of records of {} bytes ({format}), found {} bytes",
                label_bytes + PIXELS_LEN,
                bytes.len()
            )));
        }
        let records = Self { bytes, label_bytes };
        // A file in the layout of CIFAR may have other classes, and the model tells how many.
        let class_count = options.known_class_count().unwrap_or(own_classes);
        for index in 0..records.len() {
            let label = records.label(index);
            if label >= class_count {
                return Err(Error::LabelOutOfRange {
                    dataset: dataset.to_owned(),
                    item: format!("record {index}"),
                    label,
                    class_count,
                });
            }
        }
        Ok((format, records))
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.record_len()
    }

    pub(super) fn label(&self, index: usize) -> usize {
        // The fine label is the last before the pixels.
        usize::from(self.record(index)[self.label_bytes - 1])
    }

    pub(super) fn image(&self, index: usize) -> RgbImage {
        let planes = &self.record(index)[self.label_bytes..];
        let (red, rest) = planes.split_at(PLANE_LEN);
        let (green, blue) = rest.split_at(PLANE_LEN);
        let pixels = red
            .iter()
            .zip(green)
            .zip(blue)
            .flat_map(|((red, green), blue)| [*red, *green, *blue])
            .collect();
        RgbImage::new(SIDE, SIDE, pixels)
    }

    fn record_len(&self) -> usize {
        self.label_bytes + PIXELS_LEN
    }

    fn record(&self, index: usize) -> &[u8] {
        let len = self.record_len();
        &self.bytes[index * len..(index + 1) * len]
    }
}

fn labels_fit_10(bytes: &[u8]) -> bool {
    bytes
        .chunks_exact(1 + PIXELS_LEN)
        .all(|record| usize::from(record[0]) < FINE_CLASSES_10)
}

fn labels_fit_100(bytes: &[u8]) -> bool {
    bytes.chunks_exact(2 + PIXELS_LEN).all(|record| {
        usize::from(record[0]) < COARSE_CLASSES_100 && usize::from(record[1]) < FINE_CLASSES_100
    })
}
