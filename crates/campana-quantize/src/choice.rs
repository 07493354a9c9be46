//! What can be chosen for a tensor and for a model's form.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use campana_design::Method;
use campana_tensor::Granularity;

/// Bits of a code where none are asked for.
pub(crate) const DEFAULT_BITS: u8 = 4;

/// Bits of the narrowest weights that TFLite has; wider ones have 8.
pub(crate) const GRID_BITS: u8 = 4;

/// What becomes of one weight tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorChoice {
    /// Bits of a code; `None` to keep the tensor float.
    pub bits: Option<u8>,
    /// How levels are designed.
    pub method: MethodChoice,
    /// What shares a codebook or a scale.
    pub granularity: Granularity,
    /// Relative output error that a byte must save to be worth it, where `auto`
    /// chooses; `None` for the price that all tensors have.
    pub byte_price: Option<f64>,
    /// Whether products are on integers. Codes and decoder may then take more
    /// bytes than the floats, because small tensors need codes too; and where
    /// `auto` chooses, all channels of a dense layer share one table: at batch 1
    /// its time is that of reading its weights, and kernels look up codes of one
    /// table in registers.
    pub on_integers: bool,
    /// Whether each weight has a code of its own: what reads the codes knows no
    /// vectors.
    pub scalar_codes: bool,
    /// Whether codes of up to 4 bits are integers times a scale of each channel,
    /// where `auto` chooses: what reads them knows no tables.
    pub on_grid: bool,
    /// Whether integers are stored in place of codes, each group of weights with a
    /// scale: where `auto` chooses, groups then share no levels that would leave
    /// those without outliers a few integers.
    pub stored_as_integers: bool,
}

/// A method, or the choice among all of them by what they measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodChoice {
    /// For each tensor the design with the least measured error at equal
    /// stored bytes: scalar codebooks, and up to 2 bits those of vectors.
    Auto,
    /// One method for all tensors.
    Fixed(Method),
    /// Codebooks of vectors of weights, where a tensor's channels fall into
    /// vectors and its width allows for them; else as `Auto`.
    Vectors,
}

impl MethodChoice {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let fixed = Method::ALL.map(Self::Fixed);
        [Self::Auto, Self::Vectors].into_iter().chain(fixed)
    }

    /// Name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vectors => "vq",
            Self::Fixed(method) => method.as_str(),
        }
    }

    /// The granularity that a method has where none is chosen: per tensor, as
    /// the methods are defined; `auto` decides per channel what pays.
    pub fn default_granularity(self) -> Granularity {
        match self {
            Self::Auto | Self::Vectors => Granularity::PerChannel,
            Self::Fixed(_) => Granularity::PerTensor,
        }
    }
}

impl fmt::Display for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MethodChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::all().map(Self::as_str).collect();
                format!("not a method: use {}", names.join(", "))
            })
    }
}

/// The form in which a quantized model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Codes in bytes, decoded by standard operators of opset 7 and later.
    Lut,
    /// 4-bit codes as `uint4` tensors (opset 21); other widths as in `Lut`.
    LutUint4,
    /// Codes as in `Lut`, with levels that are whole numbers times a scale, and
    /// activations rounded to 8 bits: for engines that compute on both.
    W4a8,
    /// Weights as 8-bit whole numbers and activations rounded to 8 bits, as
    /// stock runtimes compute with (QDQ form).
    Int8,
    /// The decoded weights as plain floats: same size, no speed gained.
    Float,
    /// As `Lut`, in campana's entropy-coded container.
    Campana,
    /// What `Int8` holds as a TFLite model, and all that layers give to others
    /// rounded too.
    TfLite,
    /// What `Float` holds as a TFLite model.
    TfLiteFloat,
    /// As `TfLite`, for TFLite Micro: weights are codes that its DECODE operator
    /// looks up.
    TfLiteMicro,
    /// What `Lut` holds as a Core ML package that computes in 16-bit floats.
    CoreMl,
    /// What `Lut` holds as a Core ML package that computes in 32-bit floats.
    CoreMlFloat32,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 11] = [
        Self::Lut,
        Self::LutUint4,
        Self::W4a8,
        Self::Int8,
        Self::Float,
        Self::Campana,
        Self::TfLite,
        Self::TfLiteFloat,
        Self::TfLiteMicro,
        Self::CoreMl,
        Self::CoreMlFloat32,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lut => "lut",
            Self::LutUint4 => "lut-uint4",
            Self::W4a8 => "w4a8",
            Self::Int8 => "int8",
            Self::Float => "float",
            Self::Campana => "campana",
            Self::TfLite => "tflite",
            Self::TfLiteFloat => "tflite-float",
            Self::TfLiteMicro => "tflm",
            Self::CoreMl => "coreml",
            Self::CoreMlFloat32 => "coreml-float32",
        }
    }
}

impl Target {
    /// The target whose ONNX form this one's is, or is made from.
    pub fn onnx_form(self) -> Self {
        match self {
            Self::TfLite | Self::TfLiteMicro => Self::Int8,
            Self::TfLiteFloat => Self::Float,
            Self::Campana | Self::CoreMl | Self::CoreMlFloat32 => Self::Lut,
            other => other,
        }
    }

    /// The ending of the files or folders that are written.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Campana => "campana",
            Self::TfLite | Self::TfLiteFloat | Self::TfLiteMicro => "tflite",
            Self::CoreMl | Self::CoreMlFloat32 => "mlpackage",
            _ => "onnx",
        }
    }

    /// The form that an output's name asks for, [`Lut`](Self::Lut) where it asks
    /// for none of its own.
    pub fn of_output(output: &Path) -> Self {
        let ending = output.extension().unwrap_or_default().to_string_lossy();
        Self::of_ending(&ending).unwrap_or(Self::Lut)
    }

    /// The target that an ending of a file's name asks for.
    pub fn of_ending(ending: &str) -> Option<Self> {
        let ending = ending.to_ascii_lowercase();
        match ending.as_str() {
            "campana" => Some(Self::Campana),
            "tflite" => Some(Self::TfLite),
            "mlpackage" => Some(Self::CoreMl),
            _ => None,
        }
    }

    /// Bits of a code where none are asked for.
    pub fn default_bits(self) -> u8 {
        match self.stores_integers() {
            true => 8,
            false => DEFAULT_BITS,
        }
    }

    /// Whether what only moves elements of a rounded activation is rounded again,
    /// by the same parameters: engines of the QDQ form know integers by that.
    pub fn rounds_moved(self) -> bool {
        self.onnx_form() == Self::Int8
    }

    /// Whether 8-bit integers are stored in place of codes.
    pub fn stores_integers(self) -> bool {
        matches!(self, Self::Int8 | Self::TfLite)
    }

    /// Whether weights are stored in as many bits: TFLite stores 4 and 8, of
    /// depthwise filters 8 alone; other targets have every width.
    pub fn has_width(self, bits: u8, is_depthwise: bool) -> bool {
        self != Self::TfLite || bits == 8 || (bits == GRID_BITS && !is_depthwise)
    }

    /// Whether a folder is written, not a file.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::CoreMl | Self::CoreMlFloat32)
    }

    /// Whether activations are rounded to 8 bits.
    pub fn rounds_activations(self) -> bool {
        matches!(self.onnx_form(), Self::W4a8 | Self::Int8)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|target| target.as_str() == text)
            .ok_or_else(|| format!("not a target: use one of {names}"))
    }
}

/// How much time a correction may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Codes stay as they are; normalizations and biases are corrected on an
    /// eighth of the images.
    Quick,
    /// Codes and levels are chosen again for the error of outputs.
    #[default]
    Full,
}

impl Effort {
    /// All efforts, the least first.
    pub const ALL: [Self; 2] = [Self::Quick, Self::Full];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Effort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::as_str).join(" or ");
        Self::ALL
            .into_iter()
            .find(|effort| effort.as_str() == text)
            .ok_or_else(|| format!("not an effort: use {names}"))
    }
}
