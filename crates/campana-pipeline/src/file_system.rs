//! What outputs ask of the operating system, so that tests can let any of it
//! fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;

/// The calls by which files come to be. A [`Monitor`](crate::Monitor) gives
/// the one that its jobs write through.
pub trait FileSystem: Sync {
    /// Makes an empty file where none is.
    ///
    /// # Errors
    ///
    /// As the system says, here and in the other methods.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes some of the bytes; returns how many.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize>;

    /// Writes at most `limit` bytes of another file, without their coming
    /// here; returns how many.
    fn copy(&self, from: &mut File, to: &mut File, limit: u64) -> io::Result<u64>;

    /// Waits until a file's bytes are on the disk; `path` is where it is.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Waits until a folder's names are on the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Moves a file to a place where there may be another, which it replaces.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file to a place where there must be no other.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Puts each of two folders in the other's place in one step.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// Makes a folder in a folder that is there.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl FileSystem for SystemFiles {
    fn create(&self, path: &Path) -> io::Result<File> {
        // With the mode of any new file: the user's umask takes away what it must.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn copy(&self, from: &mut File, to: &mut File, limit: u64) -> io::Result<u64> {
        io::copy(&mut from.take(limit), to)
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(not(unix)) {
            // Elsewhere folders cannot be opened, and renames are written through.
            return Ok(());
        }
        match File::open(folder)?.sync_all() {
            // Some network file systems have no such call for folders.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // A file system without hard links.
            Err(_) if to.symlink_metadata().is_err() => fs::rename(from, to),
            Err(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn exchange(&self, _one: &Path, _other: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_takes_no_others_place() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let error = SystemFiles.rename_new(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"old");
        fs::remove_file(&to).unwrap();
        SystemFiles.rename_new(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
    }
}
