//! Everything that a command reads and writes, compared before it begins.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use campana_eval::{Dataset, Sidecar};
use campana_formats::{Format, TensorFile};
use campana_onnx::Model;

use crate::destination::{Destination, folder_of};
use crate::{Error, ErrorKind};

/// What the standard output leads to, where the system says so.
const STDOUT: &str = "/dev/stdout";

/// Endings of the files that a folder of images consists of.
const IMAGE_FILES: [&str; 4] = ["jpg", "jpeg", "png", "tsv"];

/// How far down a folder of images has images.
const MAX_FOLDERS: usize = 4;

/// The files of a command: no output may be an input or another output,
/// under whatever name.
///
/// ```no_run
/// use std::path::Path;
///
/// use campana_pipeline::CommandFiles;
///
/// CommandFiles::new()
///     .model("the input", "model.onnx".as_ref())
///     .output("the output", Path::new("smaller.onnx"))
///     .output("the report", None::<&Path>)
///     .check()?;
/// # Ok::<(), campana_pipeline::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct CommandFiles {
    inputs: Vec<Entry>,
    /// Folders of images; what is in them is looked at only for outputs that
    /// are there.
    folders: Vec<Entry>,
    outputs: Vec<Entry>,
    /// Outputs that are folders: they are replaced as a whole.
    output_folders: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    role: String,
    path: PathBuf,
}

impl CommandFiles {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file that is read; `role` is what it is called, as "the plan".
    #[must_use]
    pub fn input<'p>(mut self, role: &str, path: impl Into<Option<&'p Path>>) -> Self {
        if let Some(path) = path.into() {
            self.inputs.push(Entry::new(role, path));
        }
        self
    }

    /// A model that is read, with what lies beside it: the files that hold its
    /// data, and its sidecar. Of one that cannot be read only the file itself
    /// is known.
    #[must_use]
    pub fn model(mut self, role: &str, path: &Path) -> Self {
        self.inputs.push(Entry::new(role, path));
        let sidecar = format!("the sidecar of {role}");
        self.inputs
            .push(Entry::new(&sidecar, &Sidecar::path_of(path)));
        let data = format!("the data of {role}");
        let files = data_files(path);
        self.inputs
            .extend(files.iter().map(|file| Entry::new(&data, file)));
        self
    }

    /// Images that are read: a file or a folder.
    #[must_use]
    pub fn images<'p>(mut self, role: &str, path: impl Into<Option<&'p Path>>) -> Self {
        if let Some(path) = path.into() {
            self.inputs.push(Entry::new(role, path));
            self.folders.push(Entry::new(role, path));
        }
        self
    }

    /// A file that will be written, if any.
    #[must_use]
    pub fn output<'p>(mut self, role: &str, path: impl Into<Option<&'p Path>>) -> Self {
        if let Some(path) = path.into() {
            self.outputs.push(Entry::new(role, path));
        }
        self
    }

    /// A folder that will be written as a whole.
    #[must_use]
    pub fn output_folder(mut self, role: &str, path: &Path) -> Self {
        self.output_folders.push(Entry::new(role, path));
        self
    }

    /// Whether all outputs differ from all inputs and from one another.
    ///
    /// # Errors
    ///
    /// Where two are one or one lies in a folder that is written, which names
    /// both, or an output is no regular file.
    pub fn check(&self) -> Result<(), Error> {
        for folder in &self.output_folders {
            let place = end_of(&folder.path);
            let mut others = self.inputs.iter().chain(&self.outputs);
            if let Some(other) = others.find(|other| end_of(&other.path).starts_with(&place)) {
                let message = format!(
                    "{} '{}' lies in {} '{}', which is written as a whole; name another",
                    other.role,
                    other.path.display(),
                    folder.role,
                    folder.path.display()
                );
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        for (position, output) in self.outputs.iter().enumerate() {
            self.compare(output, &self.outputs[..position])?;
        }
        Ok(())
    }

    /// Whether a file that turned out to be written too differs from all.
    ///
    /// # Errors
    ///
    /// As those of [`check`](Self::check).
    pub(crate) fn check_another(&self, role: &str, path: &Path) -> Result<(), Error> {
        self.compare(&Entry::new(role, path), &self.outputs)
    }

    fn compare(&self, output: &Entry, others: &[Entry]) -> Result<(), Error> {
        let identity = Identity::of_output(&output.path)?;
        for other in self.inputs.iter().chain(others) {
            if Identity::of_output(&other.path).ok().as_ref() == Some(&identity) {
                return Err(output.refuse(&other.role, &other.path));
            }
        }
        let Identity::File(_) = identity else {
            return Ok(());
        };
        for folder in &self.folders {
            let image = find_image(&folder.path, &identity, MAX_FOLDERS)
                .or_else(|| find_listed(&folder.path, &identity));
            if let Some(image) = image {
                return Err(output.refuse(&format!("a file of {}", folder.role), &image));
            }
        }
        Ok(())
    }
}

impl Entry {
    fn new(role: &str, path: &Path) -> Self {
        Self {
            role: role.to_owned(),
            path: path.to_owned(),
        }
    }

    fn refuse(&self, other_role: &str, other: &Path) -> Error {
        let message = format!(
            "{} '{}' is {other_role} '{}' itself; name another file",
            self.role,
            self.path.display(),
            other.display()
        );
        Error::new(ErrorKind::InvalidArgument, message)
    }
}

/// What is the same for all names of a file.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    Stdout,
    /// A file that is there: hard links too are one.
    File(FileId),
    /// A file that is not there yet, by its folder's full path.
    New(PathBuf),
}

impl Identity {
    fn of_output(path: &Path) -> Result<Self, Error> {
        Ok(match Destination::of(path)? {
            // Redirected to a file it is that file.
            Destination::Stdout => match fs::metadata(STDOUT) {
                Ok(metadata) if metadata.is_file() => {
                    id_of(STDOUT.as_ref(), &metadata).map_or(Self::Stdout, Self::File)
                }
                _ => Self::Stdout,
            },
            Destination::File(path) => match file_id(&path) {
                Ok(id) => Self::File(id),
                Err(_) => Self::New(full_path(&path)),
            },
        })
    }
}

/// The full path of what a name leads to, or will.
fn end_of(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| full_path(path))
}

/// The full path of a file that is not there, in folders that may not be there.
fn full_path(path: &Path) -> PathBuf {
    let Some(name) = path.file_name() else {
        return path.to_owned();
    };
    let folder = folder_of(path);
    let folder = folder.canonicalize().unwrap_or_else(|_| full_path(folder));
    folder.join(name)
}

#[cfg(unix)]
type FileId = (u64, u64);

#[cfg(unix)]
fn id_of(_path: &Path, metadata: &Metadata) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
type FileId = PathBuf;

#[cfg(not(unix))]
fn id_of(path: &Path, _metadata: &Metadata) -> io::Result<FileId> {
    fs::canonicalize(path)
}

fn file_id(path: &Path) -> io::Result<FileId> {
    id_of(path, &fs::metadata(path)?)
}

/// The files beside a model, or of a file without a graph, that hold its data;
/// none of one that cannot be read.
pub fn data_files(path: &Path) -> Vec<PathBuf> {
    if Format::of(path).is_some() {
        return TensorFile::open(path).map_or_else(
            |_| Vec::new(),
            |file| file.files().map(Path::to_owned).collect(),
        );
    }
    let Ok(model) = Model::open(path) else {
        return Vec::new();
    };
    let tensors = model.tensors();
    let files = tensors
        .iter()
        .filter_map(|tensor| model.external_path(tensor).ok().flatten());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files.dedup();
    files
}

/// The image in a folder that a file is.
fn find_image(folder: &Path, file: &Identity, depth: usize) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            folders.push(path);
            continue;
        }
        let is_image = path.extension().is_some_and(|extension| {
            IMAGE_FILES
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        });
        if is_image && id_of(&path, &metadata).is_ok_and(|id| Identity::File(id) == *file) {
            return Some(path);
        }
    }
    let below = |folder: &PathBuf| find_image(folder, file, depth - 1);
    folders.iter().filter(|_| depth > 0).find_map(below)
}

/// The image of a dataset that a file is, whatever its ending: `labels.tsv` may name
/// any.
fn find_listed(folder: &Path, file: &Identity) -> Option<PathBuf> {
    let dataset = Dataset::open(folder).ok()?;
    let mut paths = (0..dataset.len()).map(|index| folder.join(dataset.image_name(index)));
    paths.find(|path| file_id(path).is_ok_and(|id| Identity::File(id) == *file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message that refuses an output of a command that reads `input`.
    fn refusal(files: &CommandFiles) -> String {
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn an_output_is_no_input_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "model").unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        fs::create_dir(path("sub")).unwrap();
        let files = |output: &str| {
            CommandFiles::new()
                .input("the plan", &*path("a"))
                .output("the report", &*path(output))
        };
        for output in ["a", "b", "./a", "sub/../a"] {
            let message = refusal(&files(output));
            assert!(message.starts_with("the report '"), "{message}");
            assert!(message.contains("' is the plan '"), "{message}");
        }
        for output in ["c", "sub/a"] {
            files(output).check().unwrap();
        }
    }

    #[test]
    fn outputs_that_are_not_there_yet_differ_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = |report: &str| {
            CommandFiles::new()
                .output("the output", &*path("z"))
                .output("the report", &*path(report))
                .output("the plan", None::<&Path>)
        };
        for report in ["z", "./z"] {
            let message = refusal(&files(report));
            assert!(message.contains("is the output"), "{report}: {message}");
        }
        files("missing/z").check().unwrap();
        let twice = CommandFiles::new()
            .output("the output", Path::new("-"))
            .output("the report", Path::new("/dev/stdout"));
        assert!(refusal(&twice).contains("the output '-'"));
    }

    #[test]
    fn the_sidecar_of_a_model_and_images_are_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("images/cats")).unwrap();
        for name in [
            "m.onnx",
            "images/cats/1.png",
            "images/labels.tsv",
            "images/page.html",
        ] {
            fs::write(path(name), "").unwrap();
        }
        let files = |output: &str| {
            CommandFiles::new()
                .model("the input", &path("m.onnx"))
                .images("the calibration data", &*path("images"))
                .output("the report", &*path(output))
        };
        for (output, words) in [
            ("m.onnx", "the input '"),
            ("m.json", "the sidecar of the input"),
            ("images/cats/1.png", "a file of the calibration data"),
            ("images/labels.tsv", "a file of the calibration data"),
        ] {
            let message = refusal(&files(output));
            assert!(message.contains(words), "{output}: {message}");
        }
        files("images/page.html").check().unwrap();
    }
}
