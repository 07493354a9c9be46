//! Where an output goes: what a path leads to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind};

/// Names of the standard output.
const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// As many links in a row as systems follow.
const MAX_LINKS: usize = 40;

/// What an output's path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A regular file, or a name that nothing has; no link.
    File(PathBuf),
    /// The standard output.
    Stdout,
}

impl Destination {
    /// Follows links to their end.
    ///
    /// # Errors
    ///
    /// Where there is something else than a regular file.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let mut end = path.to_owned();
        for _ in 0..MAX_LINKS {
            if STDOUT.iter().any(|name| end == Path::new(name)) {
                return Ok(Self::Stdout);
            }
            let Ok(metadata) = fs::symlink_metadata(&end) else {
                return Ok(Self::File(end));
            };
            if metadata.is_symlink() {
                let Ok(target) = fs::read_link(&end) else {
                    break;
                };
                end = folder_of(&end).join(target);
            } else if metadata.is_file() {
                return Ok(Self::File(end));
            } else {
                break;
            }
        }
        let message = format!(
            "the output '{}' exists and is no regular file",
            path.display()
        );
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }
}

/// Whether an output of this name goes to the standard output: `-`,
/// `/dev/stdout`, or a link to it.
pub fn is_stdout(path: &Path) -> bool {
    matches!(Destination::of(path), Ok(Destination::Stdout))
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_what_they_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("below")).unwrap();
        symlink("below/file", path("link")).unwrap();
        symlink("link", path("link to link")).unwrap();
        for written in [false, true] {
            if written {
                fs::write(path("below/file"), "").unwrap();
            }
            let end = Destination::File(path("below/file"));
            assert_eq!(Destination::of(&path("link to link")).unwrap(), end);
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        symlink("circle", folder.path().join("circle")).unwrap();
        symlink("/dev/zero", folder.path().join("device")).unwrap();
        for path in [
            folder.path(),
            &folder.path().join("circle"),
            &folder.path().join("device"),
        ] {
            let error = Destination::of(path).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
    }

    #[test]
    fn the_standard_output_has_several_names() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("/dev/stdout", &link).unwrap();
        assert!(is_stdout("-".as_ref()) && is_stdout("/dev/stdout".as_ref()));
        assert!(is_stdout(&link));
        assert!(!is_stdout("./-".as_ref()));
    }
}
