//! The folder around a program and its constants.

use prost::Message;

use crate::proto::Model;

/// A Core ML package: the files of a folder whose name ends in `.mlpackage`.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// The model's messages, encoded.
    pub model: Vec<u8>,
    /// Large constants.
    pub weights: Vec<u8>,
}

/// Names of the package's two items: any that differ.
const MODEL_ID: &str = "5f1c1f0e-7d0c-4b5e-9b53-63616d700001";
const WEIGHTS_ID: &str = "5f1c1f0e-7d0c-4b5e-9b53-63616d700002";

/// The file that says what is in a package; no other folder has it.
const MANIFEST: &str = "Manifest.json";
const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

impl Package {
    /// The paths of a package's files, `/` between folders; the first one marks
    /// the folder as a package.
    pub const PATHS: [&str; 3] = [MANIFEST, MODEL, WEIGHTS];

    pub(crate) fn new(model: &Model, weights: Vec<u8>) -> Self {
        Self {
            model: model.encode_to_vec(),
            weights,
        }
    }

    /// Path and content of each file.
    pub fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        let manifest = manifest().into_bytes();
        let (model, weights) = (self.model.clone(), self.weights.clone());
        [(MANIFEST, manifest), (MODEL, model), (WEIGHTS, weights)]
    }

    /// Bytes of all files.
    pub fn len_bytes(&self) -> u64 {
        (manifest().len() + self.model.len() + self.weights.len()) as u64
    }
}

fn manifest() -> String {
    let item = |id: &str, description: &str, name: &str| {
        format!(
            "\"{id}\":{{\"author\":\"com.apple.CoreML\",\"description\":\"CoreML Model {description}\",\
             \"name\":\"{name}\",\"path\":\"com.apple.CoreML/{name}\"}}"
        )
    };
    let model = item(MODEL_ID, "Specification", "model.mlmodel");
    let weights = item(WEIGHTS_ID, "Weights", "weights");
    format!(
        "{{\"fileFormatVersion\":\"1.0.0\",\"itemInfoEntries\":{{{model},{weights}}},\
         \"rootModelIdentifier\":\"{MODEL_ID}\"}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_the_files() {
        let package = Package {
            model: vec![1; 10],
            weights: vec![2; 20],
        };
        let files = package.files();
        let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(package.len_bytes(), total as u64);
        assert_eq!(files.map(|(path, _)| path), Package::PATHS);
    }
}
