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
    /// there is replaced only where that is allowed and it is empty, or has a file
    /// of the name `mark` and none of which `foreign` says that campana did not
    /// write it.
    pub(crate) fn create(
        path: &Path,
        overwrite: Overwrite,
        mark: &str,
        foreign: impl Fn(&BTreeSet<String>) -> Option<&str>,
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
            let names = fs::read_dir(path).and_then(|entries| {
                let name = |entry: std::io::Result<fs::DirEntry>| {
                    Ok(entry?.file_name().to_string_lossy().into_owned())
                };
                entries
                    .map(name)
                    .collect::<std::io::Result<BTreeSet<String>>>()
            });
            let is_ours = |names: &BTreeSet<String>| names.is_empty() || names.contains(mark);
            let Some(names) = names.ok().filter(is_ours).filter(|_| !is_link) else {
                return exists(" and is none that campana export wrote; choose another");
            };
            if let Some(name) = foreign(&names) {
                return exists(&format!(
                    " and holds '{name}', which campana export did not write; choose another"
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

    /// Writes a file of the folder.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        check(self.monitor)?;
        let path = self.temporary.join(name);
        let files = self.monitor.file_system();
        let written = files.create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            files.sync(&file, &path)
        });
        written.context(|| format!("cannot write '{}'", self.path.join(name).display()))
    }

    /// Moves the folder to its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        check(self.monitor)?;
        let failed = || format!("cannot make the folder '{}'", self.path.display());
        let parent = folder_of(&self.path).to_owned();
        let placing = Placing::begin();
        // A folder is not replaced in one step: the old one waits beside it, under
        // a name that none takes for a leftover.
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
        self.monitor
            .file_system()
            .sync_folder(&parent)
            .context(failed)
    }
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

    fn no_other(names: &BTreeSet<String>) -> Option<&str> {
        names
            .iter()
            .map(String::as_str)
            .find(|name| *name != "mark")
    }

    #[test]
    fn a_file_beside_those_of_campana_is_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mark"), "").unwrap();
        fs::write(path.join("main.c"), "int main;").unwrap();
        let refused = OutputFolder::create(&path, Overwrite::Allowed, "mark", no_other, &Quiet);
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("'main.c'"), "{message}");
        assert!(path.join("main.c").exists());
    }

    #[test]
    fn a_folder_of_other_files_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.tex"), "years of work").unwrap();
        let refused = OutputFolder::create(&path, Overwrite::Allowed, "mark", no_other, &Quiet);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Exists);
        assert!(path.join("thesis.tex").exists());
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        let folder =
            OutputFolder::create(&path, Overwrite::Refused, "mark", no_other, &Quiet).unwrap();
        folder.write("mark", b"1").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        for text in ["1", "2"] {
            let folder =
                OutputFolder::create(&path, Overwrite::Allowed, "mark", no_other, &Quiet).unwrap();
            folder.write("mark", text.as_bytes()).unwrap();
            folder.finish().unwrap();
            assert_eq!(fs::read_to_string(path.join("mark")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        let refused = OutputFolder::create(&path, Overwrite::Refused, "mark", no_other, &Quiet);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Exists);
    }
}
