//! The house as ARCHITECTURE.md draws it: crates depend on those that its table
//! names and on rows above theirs, and no modules of a crate stand in a circle.

#[path = "structure/modules.rs"]
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use campana_testing::root;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of all crates, by name.
fn crates() -> BTreeMap<String, PathBuf> {
    let folder = root().join("crates");
    fs::read_dir(&folder)
        .expect("the folder of crates")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), path)
        })
        .collect()
}

/// The crate table: names and what they depend on, in its order.
fn table() -> Vec<(String, Vec<String>)> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        if name != "xtask" && !name.starts_with("campana") {
            return None;
        }
        let needs = cells.next()?.split(',').map(str::trim);
        let needs = needs.filter(|need| *need != "-");
        Some((name.to_owned(), needs.map(dependency).collect()))
    });
    rows.collect()
}

/// The crate that a cell of the table names: `campana` in full, others without
/// the prefix.
fn dependency(need: &str) -> String {
    match need {
        "campana" => need.to_owned(),
        _ => format!("campana-{need}"),
    }
}

/// The crates of the workspace in a manifest's `[dependencies]`, sorted.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line == "[dependencies]" || line.ends_with(".dependencies]");
        } else if is_inside {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            let name = &line[..end];
            if name == "campana" || name.starts_with("campana-") {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn crates_depend_on_what_the_table_says_and_on_rows_above() {
    let table = table();
    let crates = crates();
    let named: Vec<&String> = table.iter().map(|(name, _)| name).collect();
    for name in crates.keys() {
        assert!(named.contains(&name), "the table does not name {name}");
    }
    for (row, (name, needs)) in table.iter().enumerate() {
        let folder = crates
            .get(name)
            .unwrap_or_else(|| panic!("the table names {name}, which is no crate"));
        let mut expected = needs.clone();
        expected.sort();
        let found = dependencies(&read(&folder.join("Cargo.toml")));
        assert_eq!(found, expected, "{name}: in Cargo.toml, and in the table");
        for need in needs {
            let is_above = named[..row].contains(&need);
            assert!(is_above, "{name} depends on {need}, which is no row above");
        }
    }
}

/// Modules whose own parts may stand in circles with each other: an enum (or a
/// trait) and a file for each of its variants, and the engine's two towers, for
/// floats and for codes, which lean on each other.
const ALLOWED: [(&str, &str); 4] = [
    ("campana-design", "methods"),
    ("campana-ir", "op"),
    ("campana-runtime", "ops"),
    // A plan keeps the stages that were compiled of it.
    ("campana-runtime", ""),
];

#[test]
fn no_modules_of_a_crate_stand_in_a_circle() {
    let mut circles = Vec::new();
    let mut used = BTreeSet::new();
    for (name, folder) in crates() {
        for circle in modules::circles(&folder.join("src")) {
            let is_part = |part: &String, of: &str| {
                part.strip_prefix(of)
                    .is_some_and(|rest| rest.is_empty() || of.is_empty() || rest.starts_with("::"))
            };
            let allowed = ALLOWED.iter().find(|(in_crate, of)| {
                *in_crate == name && circle.iter().all(|part| is_part(part, of))
            });
            match allowed {
                Some(exception) => _ = used.insert(exception),
                None => circles.push(format!("{name}: {}", circle.join(", "))),
            }
        }
    }
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
    assert_eq!(
        used.len(),
        ALLOWED.len(),
        "an exception has no circle: {used:?}"
    );
}

#[test]
fn a_circle_of_modules_is_found() {
    let sources = [
        ("", "mod a; mod b; mod c; pub use b::Made;"),
        ("a", "use crate::{Made, c::{d, Other as Else}};"),
        ("b", "fn f() -> crate::c::Other { crate::c::Other }"),
        (
            "c",
            "//! See [`crate::a`].\n#[cfg(test)]\nmod tests { use crate::a::f; }",
        ),
    ];
    let circles = |changed: (&str, &str)| {
        let sources = sources.map(|(module, text)| match module == changed.0 {
            true => (module.to_owned(), changed.1.to_owned()),
            false => (module.to_owned(), text.to_owned()),
        });
        modules::circles_of(&sources.into_iter().collect())
    };
    assert_eq!(circles(("none", "")), Vec::<Vec<String>>::new());
    let closed = circles(("c", "use super::a::f;"));
    assert_eq!(closed, [["a", "b", "c"]]);
    let closed = circles(("b", "pub use crate::a::x; fn f() { crate::a::g(); }"));
    assert_eq!(closed, [["a", "b"]]);
}
