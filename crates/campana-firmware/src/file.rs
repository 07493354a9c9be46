//! What a folder of firmware consists of.

use std::collections::BTreeSet;

/// A file of a folder of firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the folder.
    pub name: String,
    /// What is in it: ASCII.
    pub text: String,
}

/// Of the names in a folder the first that no [`Firmware::files`](crate::Firmware::files)
/// has and no build by its `CMakeLists.txt` makes: whoever replaces the folder
/// would lose that file.
pub fn foreign_name(names: &BTreeSet<String>) -> Option<&str> {
    let is_of_a_network = |name: &str| {
        let stem = name.strip_suffix(".h").or_else(|| {
            let stem = name.strip_suffix(".c")?;
            Some(stem.strip_suffix("_test").unwrap_or(stem))
        });
        let own = |ending| stem.map(|stem| format!("{stem}{ending}"));
        let mut all = [".h", ".c", "_test.c"].into_iter().map(own);
        all.all(|name| name.is_some_and(|name| names.contains(&name)))
    };
    let is_ours = |name: &&str| {
        let is_kernel =
            name.starts_with("campana_") && (name.ends_with(".c") || name.ends_with(".h"));
        is_kernel
            || matches!(*name, "CMakeLists.txt" | "README.md" | "build")
            || is_of_a_network(name)
    };
    names.iter().map(String::as_str).find(|name| !is_ours(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_no_export_writes_are_foreign() {
        let exported = [
            "CMakeLists.txt",
            "README.md",
            "campana_float.c",
            "net.c",
            "net.h",
            "net_test.c",
        ];
        let names = |more: &[&str]| -> BTreeSet<String> {
            exported
                .iter()
                .chain(more)
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(foreign_name(&names(&["build"])), None);
        for foreign in ["main.c", "model.onnx", "nets.h", "net_tests.c"] {
            assert_eq!(foreign_name(&names(&[foreign])), Some(foreign));
        }
    }
}
