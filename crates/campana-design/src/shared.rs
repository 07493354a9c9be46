//! Reads the material shared beside the repository, for tests that need it.

use std::io::Write as _;
use std::path::PathBuf;

/// A file below the shared folder: `CAMPANA_SHARED`, or `../shared` beside the
/// workspace. Says loudly on stderr when it is absent.
pub(crate) fn shared_file(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CAMPANA_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let file = folder.join(path);
    if !file.exists() {
        // Not eprintln, which the test harness keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {} is not there (set CAMPANA_SHARED)",
            file.display()
        );
        return None;
    }
    Some(file)
}

/// A JSON file of reference values.
pub(crate) fn reference_json(name: &str) -> Option<serde_json::Value> {
    let file = shared_file(&format!("reference/{name}"))?;
    let text = std::fs::read_to_string(file).expect("a readable reference");
    Some(serde_json::from_str(&text).expect("a JSON reference"))
}
