//! Graphs from files.

use std::path::Path;

use campana_tensor::Limits;

use super::{Result, container, onnx};
use crate::graph::Graph;

/// Reads the ONNX model in a file, weights included; one in a container is
/// unpacked in memory.
///
/// # Errors
///
/// As [`onnx::graph`], and where the file cannot be read as ONNX.
pub fn load(path: impl AsRef<Path>) -> Result<Graph> {
    onnx::graph(&container::open(path)?)
}

/// As [`load`], within these limits rather than the process's.
///
/// # Errors
///
/// As [`load`].
pub fn load_within(path: impl AsRef<Path>, limits: &Limits) -> Result<Graph> {
    onnx::graph(&container::open_within(path, limits)?)
}

/// As [`load_within`], of the bytes of a file; what a model keeps in other
/// files is not found.
///
/// # Errors
///
/// As [`load`].
pub fn parse_within(file: Vec<u8>, limits: &Limits) -> Result<Graph> {
    onnx::graph(&container::parse_within(file, limits)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ErrorKind;

    fn fixture() -> std::path::PathBuf {
        campana_testing::fixture("cifar10_resnet8.onnx")
    }

    #[test]
    fn bytes_give_the_graph_that_their_file_gives() {
        let expected = load(fixture()).unwrap();
        let model = campana_onnx::Model::open(fixture()).unwrap();
        let packed = container::pack(&model).unwrap();
        let plain = std::fs::read(fixture()).unwrap();
        for bytes in [plain, packed] {
            assert_eq!(parse_within(bytes, &Limits::DEFAULT).unwrap(), expected);
        }
    }

    #[test]
    fn limits_that_are_given_hold_for_files_and_for_bytes() {
        let limits = Limits::with_max_memory(100_000);
        let from_file = load_within(fixture(), &limits).unwrap_err();
        let from_bytes = parse_within(std::fs::read(fixture()).unwrap(), &limits).unwrap_err();
        for error in [from_file, from_bytes] {
            let kind = error.kind();
            let is_limit =
                kind == ErrorKind::Limit || kind == ErrorKind::File(campana_onnx::ErrorKind::Limit);
            assert!(is_limit, "{error}: {kind:?}");
        }
    }
}
