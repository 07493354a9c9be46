//! Which format a file has.

use std::fmt;
use std::io::Read;
use std::path::Path;

/// A format of files of named tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// The index of a safetensors model in several files.
    SafetensorsIndex,
    /// One NumPy array.
    Npy,
    /// A NumPy archive.
    Npz,
    /// PyTorch's zip form.
    PyTorch,
    /// PyTorch's form before version 1.6: pickles and raw bytes.
    PyTorchLegacy,
}

impl Format {
    /// Bytes looked at.
    pub(crate) const HEAD_LEN: usize = 64;

    /// What the first bytes and the name of a file say; `None` where it is of
    /// no format of this crate, or cannot be read.
    pub fn of(path: &Path) -> Option<Self> {
        let mut head = Vec::new();
        let file = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file)
            .and_then(|_| std::fs::File::open(path).ok())?;
        file.take(Self::HEAD_LEN as u64)
            .read_to_end(&mut head)
            .ok()?;
        Self::of_head(&head, path)
    }

    /// The same for a file that begins with these bytes and has this name.
    pub(crate) fn of_head(head: &[u8], name: &Path) -> Option<Self> {
        let extension = name
            .extension()
            .map(|extension| extension.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        if extension == "onnx" {
            None
        } else if head.starts_with(b"\x93NUMPY") {
            Some(Self::Npy)
        } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            Some(if extension == "npz" {
                Self::Npz
            } else {
                Self::PyTorch
            })
        } else if head.len() > 8 && head[8] == b'{' && head[5..8] == [0; 3] {
            Some(Self::Safetensors)
        } else if head.starts_with(b"\x80") && head.get(1).is_some_and(|version| *version <= 5) {
            Some(Self::PyTorchLegacy)
        } else {
            // By the name alone: its reader says what is wrong.
            match extension.as_str() {
                "safetensors" => Some(Self::Safetensors),
                "json" => Some(Self::SafetensorsIndex),
                "npy" => Some(Self::Npy),
                "npz" => Some(Self::Npz),
                "pt" | "pth" | "th" => Some(Self::PyTorch),
                _ => None,
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors | Self::SafetensorsIndex => "safetensors",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::PyTorch | Self::PyTorchLegacy => "PyTorch",
        })
    }
}
