//! Reads the material shared beside the repository, for tests that need it.

/// A JSON file of reference values.
pub(crate) fn reference_json(name: &str) -> Option<serde_json::Value> {
    let file = campana_testing::shared(&format!("reference/{name}"))?;
    let text = std::fs::read_to_string(file).expect("a readable reference");
    Some(serde_json::from_str(&text).expect("a JSON reference"))
}
