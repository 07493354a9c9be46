//! Which modules of a crate name each other, from their text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Texts of a crate's modules by their paths, as `a::b`; the root is empty.
type Modules = BTreeMap<String, String>;

/// How often an item is exported again, at most.
const MAX_EXPORTS: usize = 8;

/// Groups of modules of a crate, each of which leads to all others of its
/// group.
pub(crate) fn circles(source: &Path) -> Vec<Vec<String>> {
    let mut modules = Modules::new();
    collect(source, "", &mut modules);
    circles_of(&modules)
}

/// The same of modules whose texts are known.
pub(crate) fn circles_of(modules: &Modules) -> Vec<Vec<String>> {
    let texts: Modules = modules
        .iter()
        .map(|(module, text)| (module.clone(), code(text)))
        .collect();
    let exports: BTreeMap<&str, Vec<Use>> = texts
        .iter()
        .map(|(module, text)| (module.as_str(), uses(text, module, &texts, true)))
        .collect();
    let mut arrows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in &texts {
        let named = uses(text, module, &texts, false);
        let reached = named
            .iter()
            .filter_map(|used| home(used, &exports, &texts, 0));
        let reached = reached.filter(|reached| reached != module && !reached.is_empty());
        arrows.insert(module, reached.collect());
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> = texts
        .keys()
        .map(|module| (module.as_str(), reachable(module, &arrows)))
        .collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, reached) in &reach {
        if reached.contains(module) {
            let back = |other: &&&str| reach[**other].contains(module);
            found.insert(reached.iter().filter(back).map(|&m| m.to_owned()).collect());
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(from: &str, arrows: &'a BTreeMap<&str, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = arrows[from].iter().map(String::as_str).collect();
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(arrows[module].iter().map(String::as_str));
        }
    }
    reached
}

/// Reads the modules below a folder; what only tests compile is left out.
fn collect(folder: &Path, path: &str, modules: &mut Modules) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let file = entry.expect("an entry").path();
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_root = path.is_empty() && (stem == "lib" || stem == "main");
        let module = match (is_root, path) {
            (true, _) => String::new(),
            (false, "") => stem.clone(),
            (false, path) => format!("{path}::{stem}"),
        };
        if stem == "tests" {
        } else if file.is_dir() {
            collect(&file, &module, modules);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            modules.insert(module, fs::read_to_string(&file).expect("a source"));
        }
    }
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    let text = lines.collect::<Vec<_>>().join("\n");
    let is_inline = |at: &usize| {
        let rest = &text[*at..];
        let end = rest.find(['{', ';']).unwrap_or(0);
        rest[end..].starts_with('{')
    };
    let mut tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
    let end = tests.find(is_inline).unwrap_or(text.len());
    text[..end].to_owned()
}

/// A path that is named, from the root on, and under which name.
#[derive(Debug)]
struct Use {
    path: Vec<String>,
    name: String,
}

/// What a module names of its crate: by `pub use` only, or by everything else.
fn uses(text: &str, module: &str, modules: &Modules, is_public: bool) -> Vec<Use> {
    let mut found = Vec::new();
    let mut rest = text.to_owned();
    for statement in text.split_inclusive(';') {
        let Some(start) = statement
            .rfind("use ")
            .filter(|&start| is_word(statement, start))
        else {
            continue;
        };
        let before = statement[..start].trim_end();
        let is_exported = before.ends_with("pub") || before.ends_with("pub(crate)");
        rest = rest.replace(&statement[start..], "");
        if is_exported == is_public {
            expand(
                statement[start + 4..].trim_end_matches(';'),
                &[],
                &mut found,
            );
        }
    }
    if !is_public {
        found.extend(inline(&rest));
    }
    let here: Vec<String> = module
        .split("::")
        .filter(|part| !part.is_empty())
        .map(String::from)
        .collect();
    found
        .into_iter()
        .filter_map(|used| absolute(used, &here, modules))
        .collect()
}

/// The paths of several parts in code outside of `use`.
fn inline(text: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(|c: char| c.is_alphanumeric() || c == '_') {
        let start = at + start;
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let len = text[start..].find(|c| !is_path(c));
        at = len.map_or(text.len(), |len| start + len);
        let path = text[start..at].trim_end_matches(':');
        if path.contains("::") && is_word(text, start) {
            expand(path, &[], &mut found);
        }
    }
    found
}

/// Whether a word begins here, and no longer name contains it.
fn is_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The paths of one tree of a `use`.
fn expand(tree: &str, prefix: &[String], found: &mut Vec<Use>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut prefix = prefix.to_vec();
        prefix.extend(parts(&tree[..open]));
        let inner = tree[open + 1..].trim_end().trim_end_matches('}');
        // One closing brace too many is taken where trees end together: count.
        let missing = inner
            .matches('{')
            .count()
            .saturating_sub(inner.matches('}').count());
        let inner = format!("{inner}{}", "}".repeat(missing));
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], &prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return expand(&inner[start..], &prefix, found);
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path: Vec<String> = prefix.iter().cloned().chain(parts(path)).collect();
    if path.last().is_some_and(|part| part == "self") {
        path.pop();
    }
    if let Some(last) = path.last().filter(|_| !tree.is_empty()) {
        let name = if alias.is_empty() {
            last.clone()
        } else {
            alias.trim().to_owned()
        };
        found.push(Use { path, name });
    }
}

fn parts(path: &str) -> impl Iterator<Item = String> + '_ {
    let parts = path.split("::").map(str::trim);
    parts.filter(|part| !part.is_empty()).map(String::from)
}

/// A path from the root on; `None` where it leads to another crate.
fn absolute(used: Use, here: &[String], modules: &Modules) -> Option<Use> {
    let mut path: Vec<String> = Vec::new();
    let mut parts = used.path.into_iter().peekable();
    match parts.peek().map(String::as_str) {
        Some("crate") => {
            parts.next();
        }
        Some("self") => {
            parts.next();
            path = here.to_vec();
        }
        Some("super") => {
            path = here.to_vec();
            while parts.next_if(|part| part == "super").is_some() {
                path.pop();
            }
        }
        Some(first) => {
            path = here.to_vec();
            let child = path
                .iter()
                .map(String::as_str)
                .chain([first])
                .collect::<Vec<_>>();
            if !modules.contains_key(&child.join("::")) {
                return None;
            }
        }
        None => return None,
    }
    path.extend(parts);
    Some(Use {
        path,
        name: used.name,
    })
}

/// The module in which what is named is written; re-exports are followed.
fn home(
    used: &Use,
    exports: &BTreeMap<&str, Vec<Use>>,
    modules: &Modules,
    depth: usize,
) -> Option<String> {
    let longest = (0..=used.path.len())
        .rev()
        .find(|&len| modules.contains_key(&used.path[..len].join("::")))?;
    let module = used.path[..longest].join("::");
    let item = used.path.get(longest);
    let exported = exports[module.as_str()]
        .iter()
        .find(|export| Some(&export.name) == item && depth < MAX_EXPORTS)
        .and_then(|export| home(export, exports, modules, depth + 1));
    exported.or(Some(module))
}
