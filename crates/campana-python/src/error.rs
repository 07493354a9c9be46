//! Which error becomes which Python exception; the classes are Python's own,
//! since those of the native side have one base class only.

use campana_pipeline::{Error, ErrorKind};
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(campana.errors, ArgumentError);
import_exception!(campana.errors, ArgumentTypeError);
import_exception!(campana.errors, FileError);
import_exception!(campana.errors, FormatError);
import_exception!(campana.errors, InternalError);
import_exception!(campana.errors, InterruptedJobError);
import_exception!(campana.errors, LimitError);
import_exception!(campana.errors, OutputExistsError);
import_exception!(campana.errors, UnsupportedError);

/// What an option of the command line is called here.
const KEYWORDS: [(&str, &str); 19] = [
    ("--no-correct", "correct=False"),
    ("--force", "force=True"),
    ("--bits-for", "bits_for"),
    ("--calibrate", "calibrate"),
    ("--report", "report"),
    ("--resume", "resume"),
    ("--activation-ranges", "activation_ranges"),
    ("--best-effort", "best_effort=True"),
    ("--max-size", "max_size"),
    ("--max-drop", "max_drop"),
    ("--data", "data"),
    ("--plan", "plan"),
    ("--target", "target"),
    ("--keep", "keep"),
    ("--rate", "rate"),
    ("--sparsity", "sparsity"),
    ("--input-range LO,HI", "input_range=(lo, hi)"),
    ("--shape", "shape"),
    ("--bits", "bits"),
];

/// The exception for an error of a job, its causes in the text.
pub(crate) fn exception(error: impl Into<Error>) -> PyErr {
    let error = error.into();
    let text = in_python(error.chain());
    match error.kind() {
        ErrorKind::Io => FileError::new_err(text),
        ErrorKind::Malformed => FormatError::new_err(text),
        ErrorKind::InvalidArgument => ArgumentError::new_err(text),
        ErrorKind::Exists => OutputExistsError::new_err(text),
        ErrorKind::LimitExceeded => LimitError::new_err(text),
        ErrorKind::Interrupted => InterruptedJobError::new_err(text),
        _ => UnsupportedError::new_err(text),
    }
}

/// The exception for an argument.
pub(crate) fn argument(error: impl std::fmt::Display) -> PyErr {
    ArgumentError::new_err(error.to_string())
}

/// A message of the command line in the words of this package.
pub(crate) fn in_python(mut text: String) -> String {
    for (option, keyword) in KEYWORDS {
        text = text.replace(option, keyword);
    }
    text
}
