//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Context;
use crate::monitor::check;
use crate::{Error, ErrorKind, Monitor};

/// Bytes that are copied before the monitor is asked whether to go on.
const COPIED_AT_ONCE: u64 = 256 << 20;

/// Whether an existing file may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It may.
    Allowed,
    /// It may not: the user did not say `--force`.
    Refused,
}

impl Overwrite {
    /// What the flag `--force` says.
    pub fn from_force(force: bool) -> Self {
        if force { Self::Allowed } else { Self::Refused }
    }
}

/// A file under way: written beside its final place under a temporary name,
/// and moved there when it is complete. Dropped before that, it leaves
/// nothing.
pub struct OutputFile<'a> {
    path: PathBuf,
    overwrite: Overwrite,
    file: BufWriter<NamedTempFile>,
    monitor: &'a dyn Monitor,
}

impl<'a> OutputFile<'a> {
    /// Begins a file; refuses at once what cannot end well, before any work
    /// is done. Writing fails once `monitor` says to stop.
    ///
    /// # Errors
    ///
    /// Where the file exists and may not be replaced or is no regular file, or
    /// its folder cannot be written to.
    pub fn create(
        path: &Path,
        overwrite: Overwrite,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        check_replaceable(path, overwrite)?;
        let folder = folder_of(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".campana-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any new file: the user's umask takes away what it must.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).context(|| {
            format!(
                "cannot write to the folder '{}' of the output",
                folder.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            overwrite,
            file: BufWriter::with_capacity(1 << 20, file),
            monitor,
        })
    }

    /// Adds what is left of another file. The system copies it, without its
    /// bytes coming here.
    ///
    /// # Errors
    ///
    /// Where reading or writing fails, or the monitor says to stop.
    pub(crate) fn append(&mut self, from: &mut fs::File) -> io::Result<()> {
        self.flush()?;
        let file = self.file.get_mut().as_file_mut();
        loop {
            if self.monitor.is_cancelled() {
                return Err(interrupted());
            }
            if io::copy(&mut from.take(COPIED_AT_ONCE), file)? == 0 {
                return Ok(());
            }
        }
    }

    /// Moves the complete file to its place; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// Where writing fails, another file has come to be there that may not be
    /// replaced, or the monitor says to stop.
    pub fn finish(self) -> Result<u64, Error> {
        let Self {
            path,
            overwrite,
            file,
            monitor,
        } = self;
        check(monitor)?;
        let context = || format!("cannot write '{}'", path.display());
        let file = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .context(context)?;
        let size = file.as_file().metadata().context(context)?.len();
        match overwrite {
            Overwrite::Allowed => file.persist(&path),
            Overwrite::Refused => file.persist_noclobber(&path),
        }
        .map_err(|error| error.error)
        .context(context)?;
        Ok(size)
    }
}

fn interrupted() -> io::Error {
    io::Error::other("interrupted; nothing was written")
}

impl Write for OutputFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.monitor.is_cancelled() {
            return Err(interrupted());
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OutputFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a whole file at once.
///
/// # Errors
///
/// As those of [`OutputFile`].
pub fn write_file(
    path: &Path,
    overwrite: Overwrite,
    bytes: &[u8],
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let mut file = OutputFile::create(path, overwrite, monitor)?;
    file.write_all(bytes)
        .context(|| format!("cannot write '{}'", path.display()))?;
    file.finish()?;
    Ok(())
}

/// An error where the output is the input, under whatever name.
///
/// # Errors
///
/// Where it is.
pub fn check_differs(input: &Path, output: &Path) -> Result<(), Error> {
    if let (Ok(input_id), Ok(output_id)) = (file_id(input), file_id(output))
        && input_id == output_id
    {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the output '{}' is the input itself; name another file",
                output.display()
            ),
        ));
    }
    Ok(())
}

fn check_replaceable(path: &Path, overwrite: Overwrite) -> Result<(), Error> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    if !metadata.is_file() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the output '{}' exists and is no regular file",
                path.display()
            ),
        ));
    }
    if overwrite == Overwrite::Refused {
        return Err(Error::new(
            ErrorKind::Exists,
            format!(
                "the output '{}' exists; overwrite it with --force",
                path.display()
            ),
        ));
    }
    Ok(())
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// What is the same for two names of one file: hard links too.
#[cfg(unix)]
fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// What is the same for two names of one file.
#[cfg(not(unix))]
fn file_id(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

#[cfg(test)]
mod tests {
    use campana_quantize::Silent;

    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = OutputFile::create(&path, Overwrite::Refused, &Silent).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_file_needs_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_file(&path, Overwrite::Refused, b"first", &Silent).unwrap();
        let error = write_file(&path, Overwrite::Refused, b"second", &Silent).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_file(&path, Overwrite::Allowed, b"second", &Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_hard_link_to_the_input_is_the_input() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "model").unwrap();
        fs::hard_link(&a, &b).unwrap();
        assert!(check_differs(&a, &b).is_err());
        assert!(check_differs(&a, &folder.path().join("c")).is_ok());
    }
}
