//! Labelled pictures to evaluate on, and unlabelled ones to calibrate on.

mod batches;
mod cifar;
mod folder;
mod options;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use batches::nothing_readable;
pub use batches::{Batch, BatchOptions, Batches, ImageFailure, Selection};
pub(crate) use folder::list_images;
pub use options::{DatasetFormat, DatasetOptions};

use crate::error::Error;
use crate::input_file;
use crate::preprocess::{Preprocessing, RgbImage, preprocess_into};
use cifar::CifarRecords;
use folder::ImageFiles;

/// Pictures with or without labels, cheap to clone and to share between threads.
///
/// | path | recognized by |
/// | --- | --- |
/// | a file | its first bytes (JPEG, PNG), otherwise a size that is a whole number of CIFAR records; where both record sizes divide it, the one whose label bytes are all in range |
/// | a folder with `labels.tsv` | that file |
/// | a folder with pictures directly in it | unlabelled |
/// | a folder of folders with pictures | class folders |
///
/// `labels.tsv` has a header line, columns separated by tabs, among them `path` (relative to the
/// folder) and `class_index` or `name` (one of the model's class names); without a header, the
/// columns are path and class index.
///
/// Class folders stand for the classes that they name: each a class name of the model (case,
/// spaces, `-` and `_` count alike), or each a class index; otherwise for the classes in the order
/// of their sorted names, and then there must be as many of them as classes.
///
/// Pictures are files that end in `.jpg`, `.jpeg` or `.png`, in any case; names that begin with a
/// dot are passed over. They are not opened before they are decoded.
///
/// ```no_run
/// use std::path::Path;
/// use campana_eval::{BatchOptions, Dataset, Preprocessing};
///
/// let dataset = Dataset::open(Path::new("cifar10_test.bin"))?;
/// let settings = Preprocessing::new([32, 32], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// for batch in dataset.batches(&settings, &BatchOptions::default())? {
///     let batch = batch?;
///     println!("{} pictures, {} floats", batch.len(), batch.input.len());
/// }
/// # Ok::<(), campana_eval::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    content: Arc<Content>,
}

#[derive(Debug)]
struct Content {
    name: String,
    format: DatasetFormat,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Cifar(CifarRecords),
    Files(ImageFiles),
}

impl Dataset {
    /// Opens a file or folder, its form recognized and nothing known of the model's classes.
    ///
    /// # Errors
    ///
    /// As [`Dataset::open_with`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, &DatasetOptions::default())
    }

    /// Opens a file or folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if something cannot be read; [`Error::Dataset`] if the form is not recognized,
    /// the size is no whole number of records, there are no pictures, a line of `labels.tsv` cannot
    /// be understood, or class folders cannot be matched to classes; [`Error::LabelOutOfRange`].
    pub fn open_with(path: &Path, options: &DatasetOptions<'_>) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        let name = path.display().to_string();
        let (format, source) = if metadata.is_dir() {
            let (format, files) = folder::open(path, options)?;
            (format, Source::Files(files))
        } else {
            Self::open_file(path, &name, options)?
        };
        Ok(Self {
            content: Arc::new(Content {
                name,
                format,
                source,
            }),
        })
    }

    fn open_file(
        path: &Path,
        name: &str,
        options: &DatasetOptions<'_>,
    ) -> Result<(DatasetFormat, Source), Error> {
        let bytes = input_file::read(path, usize::MAX)?;
        let is_picture = bytes.starts_with(&[0xff, 0xd8, 0xff]) || bytes.starts_with(b"\x89PNG");
        match options.format {
            Some(DatasetFormat::Unlabelled) => {}
            None if is_picture => {}
            Some(format @ (DatasetFormat::ClassFolders | DatasetFormat::LabelsTsv)) => {
                return Err(Error::Dataset {
                    dataset: name.to_owned(),
                    problem: format!("expected a folder ({format}), found a file"),
                });
            }
            _ => {
                let (format, records) = CifarRecords::new(Cow::Owned(bytes), name, options)?;
                return Ok((format, Source::Cifar(records)));
            }
        }
        let files = ImageFiles::unlabelled(PathBuf::new(), vec![path.to_owned()]);
        Ok((DatasetFormat::Unlabelled, Source::Files(files)))
    }

    /// A CIFAR binary that is in memory already; `name` stands in the errors.
    ///
    /// # Errors
    ///
    /// As [`Dataset::open_with`] for such a file.
    pub fn from_cifar_bytes(
        bytes: impl Into<Cow<'static, [u8]>>,
        name: &str,
        options: &DatasetOptions<'_>,
    ) -> Result<Self, Error> {
        let (format, records) = CifarRecords::new(bytes.into(), name, options)?;
        Ok(Self {
            content: Arc::new(Content {
                name: name.to_owned(),
                format,
                source: Source::Cifar(records),
            }),
        })
    }

    /// The path or name that the dataset was opened by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// The form that was recognized or given.
    #[must_use]
    pub fn format(&self) -> DatasetFormat {
        self.content.format
    }

    /// How many pictures there are, at least 1; those that will turn out to be unreadable count.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a dataset is never empty")]
    pub fn len(&self) -> usize {
        match &self.content.source {
            Source::Cifar(records) => records.len(),
            Source::Files(files) => files.len(),
        }
    }

    /// The class of a picture, `None` in an unlabelled dataset.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    #[must_use]
    pub fn label(&self, index: usize) -> Option<usize> {
        match &self.content.source {
            Source::Cifar(records) => Some(records.label(index)),
            Source::Files(files) => files.label(index),
        }
    }

    /// Whether pictures have labels.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.content.format != DatasetFormat::Unlabelled
    }

    /// What to call a picture in a message: its path within the dataset, or its record.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    #[must_use]
    pub fn image_name(&self, index: usize) -> String {
        match &self.content.source {
            Source::Cifar(_) => format!("record {index}"),
            Source::Files(files) => files.path(index).display().to_string(),
        }
    }

    /// Checks every label against the number of classes of a model.
    ///
    /// # Errors
    ///
    /// [`Error::LabelOutOfRange`] for the first picture whose label is not below `class_count`.
    pub fn check_labels(&self, class_count: usize) -> Result<(), Error> {
        for index in 0..self.len() {
            if let Some(label) = self.label(index)
                && label >= class_count
            {
                return Err(Error::LabelOutOfRange {
                    dataset: self.content.name.clone(),
                    item: self.image_name(index),
                    label,
                    class_count,
                });
            }
        }
        Ok(())
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    ///
    /// As [`RgbImage::read`].
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> Result<RgbImage, Error> {
        match &self.content.source {
            Source::Cifar(records) => Ok(records.image(index)),
            Source::Files(files) => {
                let path = files.full_path(index);
                let bytes = input_file::read(&path, usize::MAX)?;
                RgbImage::decode(&bytes, &self.image_name(index))
            }
        }
    }

    /// Reads a picture and makes it the input of a model: `[C, H, W]` or `[H, W, C]` by the layout.
    ///
    /// # Errors
    ///
    /// As [`RgbImage::read`] and [`preprocess`](crate::preprocess()).
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Dataset::len`].
    pub fn decode(&self, index: usize, settings: &Preprocessing) -> Result<Vec<f32>, Error> {
        settings.check()?;
        let mut input = vec![0.0; settings.input_len()];
        self.decode_into(index, settings, &mut input)?;
        Ok(input)
    }

    /// [`Dataset::decode`] into a slice of [`Preprocessing::input_len`] floats.
    fn decode_into(
        &self,
        index: usize,
        settings: &Preprocessing,
        input: &mut [f32],
    ) -> Result<(), Error> {
        let image = self.image(index)?;
        preprocess_into(&image, settings, &self.image_name(index), input)
    }
}

#[cfg(test)]
mod tests;
