//! Whole files that are read: regular ones, as others have no end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file. A pipe would wait for its writer and a device may
/// have no end: they are refused, before they are opened.
///
/// # Errors
///
/// Where it is something else, or the system refuses.
pub fn open_input(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

/// Reads a regular file.
///
/// # Errors
///
/// As of [`open_input`], and where it cannot be read.
pub fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_input(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of text.
///
/// # Errors
///
/// As of [`read_input`], and where it is no UTF-8.
pub fn read_input_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_input(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused() {
        for path in ["/dev/zero", "/dev", "/dev/stdin"] {
            let error = read_input(Path::new(path)).unwrap_err();
            assert!(!error.to_string().is_empty(), "{path}");
        }
        let error = open_input(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
    }
}
