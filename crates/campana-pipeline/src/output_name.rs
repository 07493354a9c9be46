//! What the name of an output promises.

use std::path::Path;

use crate::destination::is_stdout;
use crate::{Error, ErrorKind};

/// Endings of models and weights, each with what programs expect in such a
/// file. Files of other endings may hold anything.
const KNOWN: [(&str, &str); 17] = [
    ("onnx", "an ONNX model"),
    ("campana", "a container"),
    ("safetensors", "safetensors"),
    ("npz", "NumPy arrays"),
    ("npy", "a NumPy array"),
    ("pt", "a PyTorch file"),
    ("pth", "a PyTorch file"),
    ("tflite", "a TensorFlow Lite model"),
    ("mlpackage", "a Core ML package"),
    ("mlmodel", "a Core ML model"),
    ("mlmodelc", "a Core ML model"),
    ("ort", "a model of onnxruntime's own form"),
    ("xml", "an OpenVINO model"),
    ("h5", "a Keras model"),
    ("keras", "a Keras model"),
    ("pb", "a TensorFlow model"),
    ("engine", "a TensorRT engine"),
];

/// Refuses an output whose name promises something else than `ending`, the
/// ending of what is written; `advice` says what writes what was named.
///
/// # Errors
///
/// Where the name ends in another known ending.
pub(crate) fn check_name(output: &Path, ending: &str, advice: &str) -> Result<(), Error> {
    let extension = output.extension().unwrap_or_default().to_string_lossy();
    let of = |ending: &str| KNOWN.iter().find(|(known, _)| *known == ending);
    let (Some((_, promised)), Some((_, written))) =
        (of(&extension.to_ascii_lowercase()), of(ending))
    else {
        return Ok(());
    };
    if promised == written || is_stdout(output) {
        return Ok(());
    }
    let message = format!(
        "the output '{}' is named like {promised}, but {written} is written; {advice}",
        output.display()
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_promise_something_else_are_refused() {
        for output in ["a.tflite", "a.ONNX", "a.safetensors"] {
            let error = check_name(output.as_ref(), "campana", "name it so").unwrap_err();
            let message = error.to_string();
            for word in [output, "a container is written", "name it so"] {
                assert!(message.contains(word), "{message}");
            }
        }
    }

    #[test]
    fn other_names_are_taken() {
        for output in ["a.campana", "a.CAMPANA", "a", "a.bin", "-", "a.v2"] {
            check_name(output.as_ref(), "campana", "").unwrap();
        }
        check_name("a.pth".as_ref(), "pt", "").unwrap();
    }
}
