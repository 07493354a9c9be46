//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::destination::{Destination, folder_of};
use crate::error::Context;
use crate::monitor::check;
use crate::unfinished::{self, Placing};
use crate::{Error, ErrorKind, FileSystem, Monitor};

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
/// and moved there when it is complete and on the disk. Dropped before that,
/// it leaves nothing. A link stays, and what it leads to is written; the
/// standard output gets everything at the end.
pub struct OutputFile<'a> {
    /// As the user calls it.
    name: PathBuf,
    destination: Destination,
    overwrite: Overwrite,
    file: BufWriter<Temporary<'a>>,
    monitor: &'a dyn Monitor,
    /// Folders that were made for it, removed again if it does not come to be.
    folders: Vec<PathBuf>,
    /// Its size in bytes once all of it is on the disk.
    complete: Option<u64>,
}

impl<'a> OutputFile<'a> {
    /// Begins a file; refuses at once what cannot end well, before any work
    /// is done. Writing fails once `monitor` says to stop. `-` and
    /// `/dev/stdout` are the standard output.
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
        let destination = Destination::of(path)?;
        let folder = match &destination {
            Destination::File(end) => {
                check_replaceable(path, end, overwrite)?;
                folder_of(end).to_owned()
            }
            Destination::Stdout => std::env::temp_dir(),
        };
        let file = Temporary::create(&folder, monitor.file_system()).context(|| {
            format!(
                "cannot write to the folder '{}' of the output",
                folder.display()
            )
        })?;
        Ok(Self {
            name: path.to_owned(),
            destination,
            overwrite,
            file: BufWriter::with_capacity(1 << 20, file),
            monitor,
            folders: Vec::new(),
            complete: None,
        })
    }

    /// Begins a file as [`create`](Self::create) does, and makes its folder
    /// where there is none.
    pub(crate) fn create_with_folder(
        path: &Path,
        overwrite: Overwrite,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        let missing: Vec<&Path> = folder_of(path)
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .collect();
        let mut folders = Vec::new();
        for folder in missing.into_iter().rev() {
            let made = monitor.file_system().create_folder(folder);
            let made = made.context(|| format!("cannot make the folder '{}'", folder.display()));
            if let Err(error) = made {
                remove_folders(&folders);
                return Err(error);
            }
            folders.push(folder.to_owned());
        }
        let mut created = Self::create(path, overwrite, monitor);
        match &mut created {
            Ok(file) => file.folders = folders,
            Err(_) => remove_folders(&folders),
        }
        created
    }

    /// The same file, to be called otherwise in the same folder.
    pub(crate) fn renamed(mut self, path: PathBuf) -> Result<Self, Error> {
        check_replaceable(&path, &path, self.overwrite)?;
        self.name.clone_from(&path);
        self.destination = Destination::File(path);
        Ok(self)
    }

    /// As the user calls it.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Where it will be; `None` for the standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.destination {
            Destination::File(path) => Some(path),
            Destination::Stdout => None,
        }
    }

    /// The folder in which it waits to be complete.
    pub(crate) fn folder(&self) -> &Path {
        folder_of(&self.file.get_ref().path)
    }

    /// What it is called until it is complete.
    pub(crate) fn temporary_path(&self) -> &Path {
        &self.file.get_ref().path
    }

    /// Adds what is left of another file. The system copies it, without its
    /// bytes coming here.
    ///
    /// # Errors
    ///
    /// Where reading or writing fails, or the monitor says to stop.
    pub(crate) fn append(&mut self, from: &mut File) -> io::Result<()> {
        self.flush()?;
        let Temporary {
            file, file_system, ..
        } = self.file.get_mut();
        loop {
            if self.monitor.is_cancelled() {
                return Err(interrupted());
            }
            if file_system.copy(from, file, COPIED_AT_ONCE)? == 0 {
                return Ok(());
            }
        }
    }

    /// Brings all that was written to the disk; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// Where writing fails, or the monitor says to stop.
    pub(crate) fn complete(&mut self) -> Result<u64, Error> {
        check(self.monitor)?;
        if let Some(len) = self.complete {
            return Ok(len);
        }
        let context = || format!("cannot write '{}'", self.name.display());
        self.file.flush().context(context)?;
        let Temporary {
            file,
            path,
            file_system,
            ..
        } = self.file.get_ref();
        file_system.sync(file, path).context(context)?;
        let len = file.metadata().context(context)?.len();
        self.complete = Some(len);
        Ok(len)
    }

    /// Moves the complete file to its place; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// Where writing fails, another file has come to be there that may not be
    /// replaced, or the monitor says to stop.
    pub fn finish(self) -> Result<u64, Error> {
        Ok(finish_all(vec![self])?[0])
    }

    /// Moves it to its place, if that is a file; returns the place.
    fn place(&mut self, placing: &Placing) -> Result<Option<&Path>, Error> {
        let Destination::File(path) = &self.destination else {
            return Ok(None);
        };
        let temporary = self.file.get_mut();
        let moved = match self.overwrite {
            Overwrite::Allowed => {
                // Who may read the file that is replaced may read the new one.
                if let Ok(replaced) = path.metadata() {
                    let _ = temporary.file.set_permissions(replaced.permissions());
                }
                temporary.file_system.rename(&temporary.path, path)
            }
            Overwrite::Refused => temporary.file_system.rename_new(&temporary.path, path),
        };
        moved.context(|| format!("cannot write '{}'", self.name.display()))?;
        temporary.is_placed = true;
        placing.placed(&temporary.path);
        Ok(Some(path))
    }

    /// Sends it away, if it is for the standard output.
    fn send(&mut self) -> Result<(), Error> {
        if self.destination == Destination::Stdout {
            self.file.get_mut().send().map_err(|error| {
                let message = format!("cannot write to the standard output: {error}");
                Error::new(ErrorKind::Io, message)
            })?;
        }
        Ok(())
    }
}

/// Moves complete files to their places, the last one last: it may refer to
/// the others, which are on the disk by then. Returns their sizes in bytes.
/// When one cannot be moved, those before it that took no other file's place
/// are removed.
///
/// # Errors
///
/// As those of [`OutputFile::finish`].
pub(crate) fn finish_all(mut files: Vec<OutputFile<'_>>) -> Result<Vec<u64>, Error> {
    let sizes = files.iter_mut().map(OutputFile::complete);
    let sizes = sizes.collect::<Result<Vec<u64>, Error>>()?;
    let placed = place_all(&mut files);
    if let Err((error, new)) = placed {
        for (path, file_system) in new.into_iter().rev() {
            let _ = file_system.remove(&path);
        }
        return Err(error);
    }
    files.iter_mut().try_for_each(OutputFile::send)?;
    Ok(sizes)
}

/// A path and what writes there.
type Placed<'a> = (PathBuf, &'a dyn FileSystem);

/// Moves files to their places; with an error comes what was new before it.
fn place_all<'a>(files: &mut [OutputFile<'a>]) -> Result<(), (Error, Vec<Placed<'a>>)> {
    let placing = Placing::begin();
    let mut new = Vec::new();
    let mut folders = Vec::new();
    let last = files.len().saturating_sub(1);
    for (position, file) in files.iter_mut().enumerate() {
        if position == last {
            sync_folders(&mut folders).map_err(|error| (error, new.clone()))?;
        }
        let file_system = file.monitor.file_system();
        let is_new = file
            .path()
            .is_some_and(|path| path.symlink_metadata().is_err());
        let placed = file.place(&placing);
        let Some(path) = placed
            .map_err(|error| (error, new.clone()))?
            .map(Path::to_owned)
        else {
            continue;
        };
        folders.push((folder_of(&path).to_owned(), file_system));
        for made in std::mem::take(&mut file.folders) {
            folders.push((folder_of(&made).to_owned(), file_system));
        }
        if is_new {
            new.push((path, file_system));
        }
    }
    // All are in their places by now, and stay there.
    sync_folders(&mut folders).map_err(|error| (error, Vec::new()))
}

fn sync_folders(folders: &mut Vec<Placed<'_>>) -> Result<(), Error> {
    folders.sort_by(|(one, _), (other, _)| one.cmp(other));
    folders.dedup_by(|(one, _), (other, _)| one == other);
    for (folder, file_system) in folders.drain(..) {
        file_system
            .sync_folder(&folder)
            .context(|| format!("cannot write to the folder '{}'", folder.display()))?;
    }
    Ok(())
}

fn remove_folders(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        // One that is no longer empty has become another's.
        let _ = fs::remove_dir(folder);
    }
}

impl Drop for OutputFile<'_> {
    fn drop(&mut self) {
        self.file.get_mut().discard();
        remove_folders(&self.folders);
    }
}

/// A file under a temporary name.
struct Temporary<'a> {
    file: File,
    path: PathBuf,
    file_system: &'a dyn FileSystem,
    is_placed: bool,
}

impl<'a> Temporary<'a> {
    fn create(folder: &Path, file_system: &'a dyn FileSystem) -> io::Result<Self> {
        let (path, file) = unfinished::begin(folder, |path| file_system.create(path))?;
        Ok(Self {
            file,
            path,
            file_system,
            is_placed: false,
        })
    }

    /// Sends its content to the standard output. A reader that has seen
    /// enough is no error.
    fn send(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut stdout = io::stdout().lock();
        let sent = io::copy(&mut self.file, &mut stdout).and_then(|_| stdout.flush());
        match sent {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    fn discard(&mut self) {
        if !self.is_placed {
            let _ = self.file_system.remove(&self.path);
            unfinished::forget(&self.path);
        }
    }
}

impl Write for Temporary<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file_system.write(&mut self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Temporary<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
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
        self.complete = None;
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

/// An error where `end`, to which `path` leads, is there and must stay.
fn check_replaceable(path: &Path, end: &Path, overwrite: Overwrite) -> Result<(), Error> {
    if overwrite == Overwrite::Refused && end.symlink_metadata().is_ok() {
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
    fn folders_of_a_file_that_is_not_finished_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/out");
        let create = || OutputFile::create_with_folder(&path, Overwrite::Refused, &Silent);
        drop(create().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        create().unwrap().finish().unwrap();
        assert!(path.exists());
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
    fn a_file_that_came_to_be_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let create = |path| OutputFile::create(path, Overwrite::Refused, &Silent).unwrap();
        let files = vec![create(&first), create(&second)];
        fs::write(&second, "other").unwrap();
        finish_all(files).unwrap_err();
        assert_eq!(fs::read(&second).unwrap(), b"other");
        assert!(!first.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("below")).unwrap();
        std::os::unix::fs::symlink("below/file", path("link")).unwrap();
        for bytes in [b"new", b"old"] {
            write_file(&path("link"), Overwrite::Allowed, bytes, &Silent).unwrap();
            assert!(path("link").symlink_metadata().unwrap().is_symlink());
            assert_eq!(fs::read(path("below/file")).unwrap(), bytes);
        }
        let error = write_file(&path("link"), Overwrite::Refused, b"", &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
