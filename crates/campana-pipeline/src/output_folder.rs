//! Folders that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::destination::folder_of;
use crate::error::Context;
use crate::monitor::check;
use crate::output_file::Overwrite;
use crate::unfinished::{self, Placing};
use crate::{Error, ErrorKind, Monitor};

/// What tells folders that campana wrote from others.
pub(crate) struct Kind {
    /// The command that writes such folders.
    pub(crate) writer: &'static str,
    /// A file that each of them has.
    pub(crate) mark: &'static str,
    /// Of what is in a folder, what campana did not write. Paths are from the
    /// folder on, with `/` between names; folders in it are there too.
    pub(crate) foreign: fn(&BTreeSet<String>) -> Option<&str>,
}

/// A folder under way: its files are written into a folder of a temporary name
/// beside its final place, which is moved there when they are complete.
pub(crate) struct OutputFolder<'a> {
    path: PathBuf,
    replaces: bool,
    monitor: &'a dyn Monitor,
    temporary: PathBuf,
}

impl<'a> OutputFolder<'a> {
    /// Begins a folder; refuses at once what cannot end well. A folder that is
    /// there is replaced only where that is allowed and it is empty, or of this
    /// kind and without anything that campana did not write.
    pub(crate) fn create(
        path: &Path,
        overwrite: Overwrite,
        &Kind {
            writer,
            mark,
            foreign,
        }: &Kind,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        let shown = path.display();
        let replaces = path.symlink_metadata().is_ok();
        let exists = |why: &str| {
            let message = format!("the output folder '{shown}' exists{why}");
            Err(Error::new(ErrorKind::Exists, message))
        };
        if replaces && overwrite == Overwrite::Refused {
            return exists("; use --force to replace it");
        }
        if replaces {
            let is_link = path.symlink_metadata().is_ok_and(|data| data.is_symlink());
            let is_ours = |names: &BTreeSet<String>| names.is_empty() || path.join(mark).exists();
            let names = names_in(path, "").ok().filter(is_ours).filter(|_| !is_link);
            let Some(names) = names.and_then(|names| with_inner_names(path, names).ok()) else {
                return exists(&format!(" and is none that {writer} wrote; choose another"));
            };
            if let Some(name) = foreign(&names) {
                return exists(&format!(
                    " and holds '{name}', which {writer} did not write; choose another"
                ));
            }
        }
        let folder = folder_of(path);
        let (temporary, ()) =
            unfinished::begin(folder, |path| fs::create_dir(path)).context(|| {
                format!(
                    "cannot write to the folder '{}' of the output",
                    folder.display()
                )
            })?;
        Ok(Self {
            path: path.to_owned(),
            replaces,
            monitor,
            temporary,
        })
    }

    /// Writes a file of the folder, or of folders in it, which are made for it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        check(self.monitor)?;
        let path = self.temporary.join(name);
        let files = self.monitor.file_system();
        let written = || {
            let folders: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
            for folder in folders {
                let folder = self.temporary.join(folder);
                if !folder.exists() {
                    files.create_folder(&folder)?;
                    files.sync_folder(folder_of(&folder))?;
                }
            }
            let mut file = files.create(&path)?;
            file.write_all(bytes)?;
            files.sync(&file, &path)?;
            files.sync_folder(folder_of(&path))
        };
        written().context(|| format!("cannot write '{}'", self.path.join(name).display()))
    }

    /// Moves the folder to its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        check(self.monitor)?;
        let failed = || format!("cannot make the folder '{}'", self.path.display());
        let parent = folder_of(&self.path).to_owned();
        let files = self.monitor.file_system();
        let placing = Placing::begin();
        if self.replaces && files.exchange(&self.temporary, &self.path).is_ok() {
            files.sync_folder(&parent).context(failed)?;
            // The old folder has the temporary name now, and goes as a leftover does.
            let removed = fs::remove_dir_all(&self.temporary);
            placing.placed(&self.temporary);
            return removed.context(failed);
        }
        // Some file systems cannot replace a folder in one step: the old one waits beside
        // it, under a name that none takes for a leftover.
        let old = match self.replaces {
            true => {
                let mut name = self.path.file_name().unwrap_or_default().to_owned();
                name.push(".old-");
                let old = tempfile::Builder::new()
                    .prefix(&name)
                    .tempdir_in(&parent)
                    .context(failed)?;
                fs::rename(&self.path, old.path().join("old")).context(failed)?;
                Some(old)
            }
            false => None,
        };
        let moved = fs::rename(&self.temporary, &self.path);
        if let (Err(_), Some(old)) = (&moved, &old) {
            // Nothing was lost: the old folder goes back.
            fs::rename(old.path().join("old"), &self.path).context(failed)?;
        }
        moved.context(failed)?;
        placing.placed(&self.temporary);
        files.sync_folder(&parent).context(failed)
    }
}

/// What is in a folder, by paths that begin with `prefix`.
fn names_in(folder: &Path, prefix: &str) -> std::io::Result<BTreeSet<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(format!("{prefix}{}", entry?.file_name().to_string_lossy()))
    };
    fs::read_dir(folder)?.map(name).collect()
}

/// These names and those in the folders among them.
fn with_inner_names(root: &Path, mut names: BTreeSet<String>) -> std::io::Result<BTreeSet<String>> {
    let mut waiting: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let path = root.join(&name);
        if path.symlink_metadata()?.is_dir() {
            let inner = names_in(&path, &format!("{name}/"))?;
            waiting.extend(inner.iter().cloned());
            names.extend(inner);
        }
    }
    Ok(names)
}

impl Drop for OutputFolder<'_> {
    /// Removes what was not moved to its place.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.temporary);
        unfinished::forget(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use campana_quantize::Silent as Quiet;

    const KIND: Kind = Kind {
        writer: "campana export",
        mark: "mark",
        foreign: no_other,
    };

    fn no_other(names: &BTreeSet<String>) -> Option<&str> {
        let ours = ["mark", "inner", "inner/file"];
        let mut names = names.iter().map(String::as_str);
        names.find(|name| !ours.contains(name))
    }

    #[test]
    fn a_file_beside_those_of_campana_is_not_lost() {
        for name in ["main.c", "inner/main.c"] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("out");
            fs::create_dir_all(path.join("inner")).unwrap();
            fs::write(path.join("mark"), "").unwrap();
            fs::write(path.join(name), "int main;").unwrap();
            let refused = OutputFolder::create(&path, Overwrite::Allowed, &KIND, &Quiet);
            let message = refused.err().unwrap().to_string();
            assert!(message.contains(&format!("'{name}'")), "{message}");
            assert!(path.join(name).exists());
        }
    }

    #[test]
    fn a_folder_of_other_files_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.tex"), "years of work").unwrap();
        let refused = OutputFolder::create(&path, Overwrite::Allowed, &KIND, &Quiet);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Exists);
        assert!(path.join("thesis.tex").exists());
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        let folder = OutputFolder::create(&path, Overwrite::Refused, &KIND, &Quiet).unwrap();
        folder.write("mark", b"1").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        for text in ["1", "2"] {
            let folder = OutputFolder::create(&path, Overwrite::Allowed, &KIND, &Quiet).unwrap();
            folder.write("mark", text.as_bytes()).unwrap();
            folder.write("inner/file", text.as_bytes()).unwrap();
            folder.finish().unwrap();
            assert_eq!(fs::read_to_string(path.join("mark")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        let refused = OutputFolder::create(&path, Overwrite::Refused, &KIND, &Quiet);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Exists);
    }
}
