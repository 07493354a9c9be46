//! Where a quantized model goes: a file, or a folder for forms that are one.

use std::io::Write;

use crate::core_ml::PACKAGE;
use crate::destination::is_stdout;
use crate::error::Context;
use crate::job::QuantizeJob;
use crate::output_file::{OutputFile, finish_all};
use crate::output_folder::OutputFolder;
use crate::output_len::Encoded;
use crate::{Error, ErrorKind, Monitor};

/// A model's file or folder, under way.
pub(crate) enum ModelOutput<'a> {
    File(OutputFile<'a>),
    Folder(OutputFolder<'a>),
}

impl<'a> ModelOutput<'a> {
    /// Begins the output that the job's target writes; refuses at once what
    /// cannot end well.
    pub(crate) fn create(job: &QuantizeJob<'_>, monitor: &'a dyn Monitor) -> Result<Self, Error> {
        let (output, target) = (job.output, job.options.target);
        if !target.is_folder() {
            let file = OutputFile::create(output, job.overwrite, monitor)?;
            return Ok(Self::File(file));
        }
        if is_stdout(output) {
            let message = format!(
                "--target {target} writes a folder, which the standard output cannot be; name one"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let folder = OutputFolder::create(output, job.overwrite, &PACKAGE, monitor)?;
        Ok(Self::Folder(folder))
    }

    /// Writes a model that is no ONNX file; returns its bytes.
    pub(crate) fn write(&mut self, encoded: Encoded) -> Result<u64, Error> {
        match (self, encoded) {
            (Self::File(file), Encoded::File(bytes)) => {
                let name = file.name().to_owned();
                let writing = || format!("cannot write '{}'", name.display());
                file.write_all(&bytes).context(writing)?;
                file.complete()
            }
            (Self::Folder(folder), Encoded::Folder(package)) => {
                for (path, bytes) in package.files() {
                    folder.write(path, &bytes)?;
                }
                Ok(package.len_bytes())
            }
            _ => unreachable!("a target says whether it is a file or a folder"),
        }
    }

    /// Moves complete files to their places and then the model to its own: it is
    /// complete only with the files it refers to.
    pub(crate) fn finish_after(self, mut files: Vec<OutputFile<'a>>) -> Result<(), Error> {
        match self {
            Self::File(file) => {
                files.push(file);
                finish_all(files)?;
                Ok(())
            }
            Self::Folder(folder) => {
                finish_all(files)?;
                folder.finish()
            }
        }
    }
}
