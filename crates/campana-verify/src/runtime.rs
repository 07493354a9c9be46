//! The runtimes, and how a process is started that runs a model in one.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use campana_eval::open_input;

/// What runs models in Python runtimes.
pub(crate) const SCRIPT: &str = include_str!("worker.py");

/// An inference runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// campana's own engine.
    Campana,
    /// onnxruntime, on the CPU.
    OnnxRuntime,
    /// OpenVINO, on the CPU, computing in float32.
    OpenVino,
    /// TFLite (LiteRT). It reads only TFLite models: of an ONNX model the file
    /// beside it is taken, `net.tflite` for `net.onnx`.
    TfLite,
    /// The interpreter of TFLite Micro on this machine. It reads what `TfLite`
    /// does and weights as codes.
    TfLiteMicro,
}

impl Runtime {
    /// All runtimes; campana first, with which the others are compared.
    pub const ALL: [Self; 5] = [
        Self::Campana,
        Self::OnnxRuntime,
        Self::OpenVino,
        Self::TfLite,
        Self::TfLiteMicro,
    ];

    /// The runtimes beside campana that a model is meant for.
    pub fn defaults(model: &Path) -> Vec<Self> {
        match needs_micro(model) {
            true => vec![Self::TfLiteMicro],
            false => vec![Self::OnnxRuntime, Self::OpenVino, Self::TfLite],
        }
    }

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Campana => "campana",
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
            Self::TfLite => "tflite",
            Self::TfLiteMicro => "tflm",
        }
    }

    /// Whether it reads TFLite models, and no others.
    pub(crate) fn reads_tflite(self) -> bool {
        matches!(self, Self::TfLite | Self::TfLiteMicro)
    }

    /// The file that the runtime loads for a model; `None` where it reads
    /// another format and there is no such file.
    pub fn file_of(self, model: &Path) -> Option<PathBuf> {
        match (self.reads_tflite(), is_tflite(model)) {
            (true, false) => Some(model.with_extension("tflite")).filter(|file| file.exists()),
            (true, true) | (false, false) => Some(model.to_owned()),
            (false, true) => None,
        }
    }
}

/// Whether a file is a TFLite model, by what it begins with.
pub fn is_tflite(path: &Path) -> bool {
    let mut start = [0; 8];
    let read = open_input(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start.ends_with(b"TFL3")
}

/// Whether a file is a TFLite model with weights that only TFLite Micro decodes.
fn needs_micro(path: &Path) -> bool {
    const DECODE: &[u8] = b"TFLM_DECODE";
    let mut bytes = Vec::new();
    let read = |bytes: &mut _| open_input(path).and_then(|mut file| file.read_to_end(bytes));
    is_tflite(path)
        && read(&mut bytes).is_ok()
        && bytes.windows(DECODE.len()).any(|window| window == DECODE)
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|runtime| runtime.as_str() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::as_str).join(", ");
                format!("not a runtime: use one of {names}")
            })
    }
}

/// The Python whose runtimes are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Python {
    /// `python3` of the path, where there is one.
    Default,
    /// This interpreter, which must be there.
    Given(PathBuf),
}

impl Python {
    /// The program to start.
    pub fn program(&self) -> &Path {
        match self {
            Self::Default => Path::new("python3"),
            Self::Given(path) => path,
        }
    }

    /// Whether it starts.
    pub(crate) fn starts(&self) -> bool {
        Command::new(self.program())
            .args(["-c", ""])
            .output()
            .is_ok_and(|output| output.status.success())
    }
}
