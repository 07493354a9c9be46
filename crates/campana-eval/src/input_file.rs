//! Files that are read whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use campana_tensor::Limits;

use crate::Error;

/// The bytes of a file of at most `max_len` bytes, and of the memory limit of
/// the process.
///
/// # Errors
///
/// [`Error::Io`] where it cannot be read, is no regular file (a pipe would wait
/// for its writer, a device may have no end) or is longer.
pub(crate) fn read(path: &Path, max_len: usize) -> Result<Vec<u8>, Error> {
    read_at_most(path, max_len).map_err(|source| Error::io(path, source))
}

fn read_at_most(path: &Path, max_len: usize) -> io::Result<Vec<u8>> {
    let max_len = max_len.min(Limits::global().max_memory) as u64;
    let file = open_input(path)?;
    let len = file.metadata()?.len();
    if len > max_len {
        return Err(io::Error::other(format!(
            "it has {len} bytes, more than the limit of {max_len}"
        )));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // One that grows meanwhile is cut off.
    file.take(max_len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read`], for a text in UTF-8.
///
/// # Errors
///
/// As [`read`], and where it is not.
pub(crate) fn read_text(path: &Path, max_len: usize) -> Result<String, Error> {
    String::from_utf8(read(path, max_len)?).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8");
        Error::io(path, source)
    })
}

/// Opens a regular file. A pipe would wait for its writer and a device may
/// have no end: they are refused, before they are opened.
///
/// # Errors
///
/// Where it is something else, or the system refuses.
pub fn open_input(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

/// Reads a regular file of at most the memory limit of the process.
///
/// # Errors
///
/// As of [`open_input`], and where it cannot be read or is longer.
pub fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(read_text(&file, 4).unwrap(), "four");
        for (path, max_len, words) in [
            (file.as_path(), 3, "limit of 3"),
            (folder.path(), 3, "not a regular file"),
            (Path::new("/dev/null"), 3, "regular file"),
        ] {
            let error = read(path, max_len).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(words) || !path.exists(), "{cause}");
        }
        std::fs::write(&file, b"\xff").unwrap();
        assert!(read_text(&file, 4).is_err());
    }
}
