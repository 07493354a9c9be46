//! What a Core ML package is told of the model beside its network.

use std::collections::BTreeSet;
use std::path::Path;

use campana_coreml::{Channels, Image, Layout, Options, Package, Precision};
use campana_eval::{ChannelOrder, Layout as Axes, Sidecar};
use campana_quantize::Target;

use crate::Error;
use crate::output_folder::Kind;

/// Packages, as folders that may be replaced.
pub(crate) const PACKAGE: Kind = Kind {
    writer: "campana quantize",
    mark: Package::PATHS[1],
    foreign: foreign_name,
};

/// A file or folder that no package has.
fn foreign_name(names: &BTreeSet<String>) -> Option<&str> {
    let is_ours = |name: &String| {
        let folder = format!("{name}/");
        let mut paths = Package::PATHS.iter();
        paths.any(|path| path == name || path.starts_with(&folder))
    };
    // What macOS leaves in a folder that was looked at is nobody's work.
    let is_left = |name: &String| name == ".DS_Store" || name.ends_with("/.DS_Store");
    let mut names = names.iter();
    names
        .find(|name| !is_ours(name) && !is_left(name))
        .map(String::as_str)
}

/// The sidecar of a model, where its target tells of pictures and classes.
///
/// # Errors
///
/// Where the file is damaged.
pub(crate) fn sidecar_for(target: Target, model: &Path) -> Result<Option<Sidecar>, Error> {
    match target {
        Target::CoreMl | Target::CoreMlFloat32 => Ok(Sidecar::beside(model)?),
        _ => Ok(None),
    }
}

/// How a target's program computes, and what the sidecar of the model says of its
/// pictures and classes.
pub(crate) fn options(target: Target, sidecar: Option<&Sidecar>) -> Options {
    let precision = match target {
        Target::CoreMlFloat32 => Precision::Float32,
        _ => Precision::Float16,
    };
    let Some(sidecar) = sidecar else {
        return Options::new(precision);
    };
    let prepared = &sidecar.preprocessing;
    let channels = match prepared.channels {
        ChannelOrder::Rgb => Channels::Rgb,
        ChannelOrder::Bgr => Channels::Bgr,
        ChannelOrder::Grey => Channels::Gray,
    };
    let of_each = |values: &[f32]| values[..channels.count()].to_vec();
    let image = Image {
        channels,
        layout: match prepared.layout {
            Axes::Nchw => Layout::Nchw,
            Axes::Nhwc => Layout::Nhwc,
        },
        size: prepared.size,
        mean: of_each(&prepared.mean),
        std: of_each(&prepared.std),
    };
    Options {
        precision,
        image: Some(image),
        labels: sidecar.labels.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_holds_no_other_files() {
        let names = |more: &[&str]| -> BTreeSet<String> {
            let own = [
                "Data",
                "Data/com.apple.CoreML",
                "Data/com.apple.CoreML/weights",
            ];
            let own = own.iter().chain(Package::PATHS.iter()).chain(more);
            own.map(|&name| name.to_owned()).collect()
        };
        assert_eq!(foreign_name(&names(&[])), None);
        let notes = "Data/com.apple.CoreML/notes.txt";
        assert_eq!(foreign_name(&names(&[notes])), Some(notes));
        assert_eq!(foreign_name(&names(&["Data.txt"])), Some("Data.txt"));
    }
}
