//! What is known of a dataset beyond its files.

use std::fmt;

/// The form of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatasetFormat {
    /// Records of 1 label byte and 3,072 bytes: 32 x 32 pixels, a plane of red, green and blue each.
    Cifar10,
    /// Records of a coarse label, a fine label (the one that counts) and 3,072 bytes as CIFAR-10's.
    Cifar100,
    /// A folder with a folder of pictures for each class.
    ClassFolders,
    /// A folder of pictures with a `labels.tsv`.
    LabelsTsv,
    /// Pictures without labels: a folder of them, or one file.
    Unlabelled,
}

impl fmt::Display for DatasetFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cifar10 => "CIFAR-10 binary",
            Self::Cifar100 => "CIFAR-100 binary",
            Self::ClassFolders => "class folders",
            Self::LabelsTsv => "labels.tsv",
            Self::Unlabelled => "unlabelled images",
        })
    }
}

/// What is known of a dataset beyond its files.
#[derive(Debug, Clone, Default)]
pub struct DatasetOptions<'a> {
    /// The form; `None` recognizes it.
    pub format: Option<DatasetFormat>,
    /// How many classes the model tells apart: every label must be below. `None` takes the number
    /// of `class_names`, and without those leaves labels unchecked but for CIFAR's own 10 and 100.
    pub class_count: Option<usize>,
    /// The names of the model's classes by index, to which folders and the column `name` of a
    /// `labels.tsv` are matched; empty when unknown.
    pub class_names: &'a [String],
}

impl DatasetOptions<'_> {
    pub(super) fn known_class_count(&self) -> Option<usize> {
        self.class_count
            .or_else(|| (!self.class_names.is_empty()).then_some(self.class_names.len()))
    }
}
