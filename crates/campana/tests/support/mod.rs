//! What every test of the command needs: folders, models made by hand, and
//! the built binary.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses a part of it"
)]

pub mod models;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub use campana_testing::{root, skipped};

/// The built command.
pub const CAMPANA: &str = env!("CARGO_BIN_EXE_campana");

/// A network of the repository: ResNet-8 for CIFAR-10.
pub fn fixture() -> PathBuf {
    campana_testing::fixture("cifar10_resnet8.onnx")
}

/// A temporary folder in which the command runs.
pub struct Folder(tempfile::TempDir);

/// What is in a folder: bytes of files, targets of links, `None` for folders.
pub type Listing = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A folder with `model.onnx` in it.
    pub fn with_model(bytes: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.write("model.onnx", bytes);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a written file");
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// The command with these arguments, to be run in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CAMPANA);
        command
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        with_plain_output(&mut command);
        command
    }

    /// Runs the command in this folder.
    pub fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.command(args).output().expect("the command runs"))
    }

    /// Everything in the folder.
    pub fn listing(&self) -> Listing {
        let mut listing = Listing::new();
        list(self.0.path(), self.0.path(), &mut listing);
        listing
    }

    /// Runs the command, which must fail, say each of `words`, print nothing
    /// on stdout and leave the folder as it was.
    #[track_caller]
    pub fn refuses(&self, args: &[&str], words: &[&str]) {
        let before = self.listing();
        let outcome = self.run(args);
        outcome.is_refusal(words);
        assert_same_files(&before, &self.listing());
    }
}

/// Takes out of a command's environment what changes the form of its output.
pub fn with_plain_output(command: &mut Command) {
    for name in [
        "CLICOLOR_FORCE",
        "CLICOLOR",
        "NO_COLOR",
        "RUST_BACKTRACE",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
}

#[track_caller]
pub fn assert_same_files(before: &Listing, after: &Listing) {
    let names = |listing: &Listing| listing.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "files in the folder");
    for (name, content) in before {
        assert!(content == &after[name], "{} was changed", name.display());
    }
}

fn list(root: &Path, folder: &Path, listing: &mut Listing) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let kind = fs::symlink_metadata(&path).expect("an entry").file_type();
        let content = if kind.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            Some(target.into_os_string().into_encoded_bytes())
        } else if kind.is_dir() {
            list(root, &path, listing);
            None
        } else {
            Some(fs::read(&path).expect("a readable file"))
        };
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        listing.insert(name, content);
    }
}

/// What a run of the command gave.
#[derive(Debug)]
pub struct Outcome {
    /// `None` where a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the command prints UTF-8");
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Asserts exit status 0 and a silent stderr; returns stdout.
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert_eq!(self.status, Some(0), "stderr:\n{}", self.stderr);
        assert_eq!(self.stderr, "", "stderr of a success");
        self.stdout
    }

    /// Asserts that each line of stderr is a warning with these words, of which
    /// there may be none, and takes them away.
    #[track_caller]
    pub fn may_warn(mut self, words: &str) -> Self {
        for line in std::mem::take(&mut self.stderr).lines() {
            let is_expected = line.starts_with("warning: ") && line.contains(words);
            assert!(is_expected, "no warning of {words:?}: {line}");
        }
        self
    }

    /// The same where there is at least one.
    #[track_caller]
    pub fn warns(self, words: &str) -> Self {
        assert!(!self.stderr.is_empty(), "no warning of {words:?}");
        self.may_warn(words)
    }

    /// Asserts exit status 0; returns the one JSON object on stdout.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let stdout = self.succeeds();
        let value = serde_json::from_str(&stdout);
        value.unwrap_or_else(|error| panic!("{error} in stdout:\n{stdout}"))
    }

    /// Asserts exit status 2, an error that says each of `words`, and a
    /// silent stdout.
    #[track_caller]
    pub fn is_refusal(&self, words: &[&str]) {
        assert_eq!(self.status, Some(2), "{self:?}");
        assert_eq!(self.stdout, "", "stdout of an error");
        assert!(
            self.stderr.starts_with("error: "),
            "stderr:\n{}",
            self.stderr
        );
        assert!(
            !self.stderr.contains("panicked"),
            "stderr:\n{}",
            self.stderr
        );
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no '{word}' in stderr:\n{}",
                self.stderr
            );
        }
    }
}
