//! Folders of pictures: with a `labels.tsv`, with a folder for each class, or without labels.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::options::{DatasetFormat, DatasetOptions};
use crate::error::Error;
use crate::input_file;

const LABELS_FILE: &str = "labels.tsv";

/// How deep folders within a class folder are searched; a link to a parent would never end.
const MAX_DEPTH: usize = 8;

/// Paths within a folder, and their labels.
#[derive(Debug)]
pub(super) struct ImageFiles {
    root: PathBuf,
    paths: Vec<PathBuf>,
    /// As many as paths, or none.
    labels: Option<Vec<usize>>,
}

impl ImageFiles {
    pub(super) fn unlabelled(root: PathBuf, paths: Vec<PathBuf>) -> Self {
        Self {
            root,
            paths,
            labels: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(super) fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    pub(super) fn path(&self, index: usize) -> &Path {
        &self.paths[index]
    }

    pub(super) fn full_path(&self, index: usize) -> PathBuf {
        self.root.join(&self.paths[index])
    }
}

/// Recognizes the form of a folder unless it is given, and lists its pictures.
pub(super) fn open(
    root: &Path,
    options: &DatasetOptions<'_>,
) -> Result<(DatasetFormat, ImageFiles), Error> {
    let format = match options.format {
        Some(format @ (DatasetFormat::Cifar10 | DatasetFormat::Cifar100)) => {
            return Err(problem(
                root,
                format!("expected a file ({format}), found a folder"),
            ));
        }
        Some(format) => format,
        None if root.join(LABELS_FILE).is_file() => DatasetFormat::LabelsTsv,
        None if !list(root)?.images.is_empty() => DatasetFormat::Unlabelled,
        None => DatasetFormat::ClassFolders,
    };
    let files = match format {
        DatasetFormat::LabelsTsv => read_labels_tsv(root, options)?,
        DatasetFormat::ClassFolders => read_class_folders(root, options)?,
        _ => {
            let mut paths = Vec::new();
            collect(root, Path::new(""), 0, &mut paths)?;
            ImageFiles::unlabelled(root.to_owned(), paths)
        }
    };
    if files.paths.is_empty() {
        return Err(problem(
            root,
            "expected JPEG or PNG files, folders of them, or a labels.tsv, found none".to_owned(),
        ));
    }
    Ok((format, files))
}

fn problem(root: &Path, problem: String) -> Error {
    Error::Dataset {
        dataset: root.display().to_string(),
        problem,
    }
}

/// What lies in a folder, by name and sorted.
#[derive(Default)]
struct Listing {
    images: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn list(folder: &Path) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let failed = |source| Error::io(folder, source);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().map(PathBuf::from) else {
            continue;
        };
        if name.as_os_str().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            listing.folders.push(name);
        } else if is_image(&name) {
            listing.images.push(name);
        }
    }
    // The order of a directory is not deterministic.
    listing.images.sort();
    listing.folders.sort();
    Ok(listing)
}

/// Names of the pictures directly in a folder, sorted.
pub(crate) fn list_images(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(list(folder)?.images)
}

fn is_image(name: &Path) -> bool {
    name.extension().is_some_and(|extension| {
        ["jpg", "jpeg", "png"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Appends the pictures of `root/inner` and of its folders, as paths within `root`.
fn collect(root: &Path, inner: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), Error> {
    let listing = list(&root.join(inner))?;
    paths.extend(listing.images.iter().map(|name| inner.join(name)));
    if depth < MAX_DEPTH {
        for name in &listing.folders {
            collect(root, &inner.join(name), depth + 1, paths)?;
        }
    }
    Ok(())
}

fn read_class_folders(root: &Path, options: &DatasetOptions<'_>) -> Result<ImageFiles, Error> {
    let mut folders = Vec::new();
    for name in list(root)?.folders {
        let mut paths = Vec::new();
        collect(root, &name, 1, &mut paths)?;
        // A folder without any picture is not a class but, say, a folder of notes.
        if !paths.is_empty() {
            folders.push((name.to_string_lossy().into_owned(), paths));
        }
    }
    let names: Vec<&str> = folders.iter().map(|(name, _)| name.as_str()).collect();
    let classes = match_classes(root, &names, options)?;
    let mut files = ImageFiles::unlabelled(root.to_owned(), Vec::new());
    let mut labels = Vec::new();
    for ((_, paths), class) in folders.into_iter().zip(classes) {
        labels.resize(labels.len() + paths.len(), class);
        files.paths.extend(paths);
    }
    files.labels = Some(labels);
    Ok(files)
}

/// The class of each folder: by class name, by number, or by order.
fn match_classes(
    root: &Path,
    folders: &[&str],
    options: &DatasetOptions<'_>,
) -> Result<Vec<usize>, Error> {
    let class_names = ClassNames::new(options.class_names);
    if let Some(classes) = folders
        .iter()
        .map(|name| class_names.find(name))
        .collect::<Option<Vec<_>>>()
    {
        return classes
            .into_iter()
            .map(|class| class.map_err(|ambiguous| problem(root, ambiguous)))
            .collect();
    }
    if let Some(classes) = folders
        .iter()
        .map(|name| name.parse().ok())
        .collect::<Option<Vec<usize>>>()
    {
        for (name, label) in folders.iter().zip(&classes) {
            check_label(root, *label, options, || format!("folder {name}"))?;
        }
        return Ok(classes);
    }
    match options.known_class_count() {
        Some(class_count) if class_count != folders.len() && !folders.is_empty() => Err(problem(
            root,
            format!(
                "expected a folder for each of {class_count} classes, or folders named by class \
                 name or index, found {} folders such as {:?}; a labels.tsv would tell their \
                 classes",
                folders.len(),
                folders[0]
            ),
        )),
        _ => Ok((0..folders.len()).collect()),
    }
}

fn check_label(
    root: &Path,
    label: usize,
    options: &DatasetOptions<'_>,
    item: impl FnOnce() -> String,
) -> Result<(), Error> {
    match options.known_class_count() {
        Some(class_count) if label >= class_count => Err(Error::LabelOutOfRange {
            dataset: root.display().to_string(),
            item: item(),
            label,
            class_count,
        }),
        _ => Ok(()),
    }
}

/// The model's class names, found however they are spelled.
struct ClassNames {
    /// `None` for a name that two classes have, as ImageNet's crane.
    by_name: HashMap<String, Option<usize>>,
}

impl ClassNames {
    fn new(names: &[String]) -> Self {
        let mut by_name = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            by_name
                .entry(normal_form(name))
                .and_modify(|class| *class = None)
                .or_insert(Some(index));
        }
        Self { by_name }
    }

    /// The class of a name, `None` if no class has it, an error if two have it.
    fn find(&self, name: &str) -> Option<Result<usize, String>> {
        self.by_name.get(&normal_form(name)).map(|class| {
            class.ok_or_else(|| {
                format!(
                    "expected a name of one class, found {name:?}, the name of several; a \
                     labels.tsv with class_index would tell them apart"
                )
            })
        })
    }
}

fn normal_form(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// Where the columns of a `labels.tsv` are.
struct Columns {
    path: usize,
    class_index: Option<usize>,
    name: Option<usize>,
}

fn read_labels_tsv(root: &Path, options: &DatasetOptions<'_>) -> Result<ImageFiles, Error> {
    let file = root.join(LABELS_FILE);
    let text = input_file::read_text(&file, usize::MAX)?;
    let text = text.trim_start_matches('\u{feff}');
    let class_names = ClassNames::new(options.class_names);
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .peekable();
    let header: Vec<&str> = lines
        .peek()
        .map(|(_, line)| line.split('\t').map(str::trim).collect())
        .unwrap_or_default();
    let position = |column: &str| header.iter().position(|name| *name == column);
    let columns = match position("path") {
        Some(path) => {
            lines.next();
            Columns {
                path,
                class_index: position("class_index"),
                name: position("name"),
            }
        }
        None => Columns {
            path: 0,
            class_index: Some(1),
            name: None,
        },
    };
    if columns.class_index.is_none() && (columns.name.is_none() || options.class_names.is_empty()) {
        return Err(problem(
            &file,
            format!(
                "expected a column class_index, or name and a model with class names, found the \
                 columns {}",
                header.join(", ")
            ),
        ));
    }

    let mut files = ImageFiles::unlabelled(root.to_owned(), Vec::new());
    let mut labels = Vec::new();
    for (line_index, line) in lines {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let broken = |expected: &str| {
            problem(
                &file,
                format!(
                    "line {}: expected {expected}, found {line:?}",
                    line_index + 1
                ),
            )
        };
        let path = fields
            .get(columns.path)
            .filter(|path| !path.is_empty())
            .ok_or_else(|| broken("the path of a picture"))?;
        // A dataset may come from anywhere; it names files within its folder.
        let is_within = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(path).components().all(is_within) {
            return Err(broken("a path within the folder of labels.tsv"));
        }
        let label = match (columns.class_index, columns.name) {
            (Some(column), _) => fields
                .get(column)
                .and_then(|field| field.parse().ok())
                .ok_or_else(|| broken("a class index, 0 or above"))?,
            (None, column) => column
                .and_then(|column| fields.get(column))
                .and_then(|name| class_names.find(name))
                .ok_or_else(|| broken("the name of a class of the model"))?
                .map_err(|ambiguous| problem(&file, ambiguous))?,
        };
        check_label(&file, label, options, || format!("line {}", line_index + 1))?;
        files.paths.push(PathBuf::from(path));
        labels.push(label);
    }
    files.labels = Some(labels);
    Ok(files)
}
