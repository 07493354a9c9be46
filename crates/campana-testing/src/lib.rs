//! What tests of several crates need: the repository's fixtures, the shared
//! folder of networks and data, and a way to say that something was not tested.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The repository's root.
///
/// # Panics
///
/// Where the sources are not there.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the crate lies in a repository")
}

/// A file of the repository's `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// Says that something is not tested here, past the test harness, which keeps
/// what passing tests print to itself.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// A file or folder below the shared folder: `CAMPANA_SHARED`, by default
/// `shared` beside the repository. `None`, said loudly, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CAMPANA_SHARED");
    let folder = folder.map_or_else(|| root().join("../shared"), PathBuf::from);
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    let found = found.display();
    skipped(&format!("{found} is not there (set CAMPANA_SHARED)"));
    None
}

/// The ONNX models of the shared folder, sorted; none, said loudly, where it is
/// absent.
///
/// # Panics
///
/// Where the folder is there and cannot be read.
pub fn shared_models() -> Vec<PathBuf> {
    let Some(folder) = shared("models") else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder).expect("a readable folder");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let mut models: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    models.sort();
    models
}
