//! One network in memory: inspected, and made smaller.

use std::path::Path;

use campana_eval::Sidecar;
use campana_onnx::{Model, Source};
use campana_pipeline::{
    Monitor, QuantizeJob, QuantizedBytes, SampleChoice, decode_pictures, quantize_bytes,
};
use campana_quantize::inspect::inspect;
use campana_quantize::{MethodChoice, Options, Target};
use campana_report::inspect_page;
use serde::Deserialize;

use crate::{Error, sidecar_of};

/// A network that was read.
#[derive(Debug)]
pub struct Network {
    name: String,
    bytes: Vec<u8>,
    pictures: Vec<(String, Vec<u8>)>,
}

/// A network with weights of fewer bits.
#[derive(Clone, Debug)]
pub struct Smaller {
    /// The file.
    pub model: Vec<u8>,
    /// What it may be called.
    pub name: String,
    /// The page that says what was lost.
    pub page: String,
    /// The same as JSON, as `campana quantize --json` prints it.
    pub report: String,
}

/// What is known of a network's weights.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The page of `campana inspect --html`.
    pub page: String,
    /// The same as JSON, as `campana inspect --json` prints it.
    pub report: String,
}

/// What is asked for, as the options of `campana quantize` of the same names;
/// what is left out is their default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Choices {
    /// Bits of a weight, 1 to 8.
    pub bits: Option<u8>,
    /// How levels are designed.
    pub method: Option<String>,
    /// The form of the file.
    pub target: Option<String>,
    /// `false` leaves out the correction.
    pub correct: Option<bool>,
    /// What the network takes: the content of its sidecar.
    pub sidecar: Option<serde_json::Value>,
    /// Least and greatest value of the input, where that is all that is known.
    pub input_range: Option<[f32; 2]>,
}

impl Choices {
    /// Understands the JSON of an object.
    ///
    /// # Errors
    ///
    /// Where it is another, or has keys of which there are none.
    pub fn parse(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| Error::new(format!("options: {error}")))
    }

    fn options(&self) -> Result<Options, Error> {
        let method: MethodChoice = chosen(self.method.as_deref().unwrap_or("auto"))?;
        let target: Target = chosen(self.target.as_deref().unwrap_or("lut"))?;
        let options = Options {
            bits: self.bits.unwrap_or_else(|| target.default_bits()),
            method,
            granularity: method.default_granularity(),
            means_are_corrected: self.correct != Some(false),
            target,
            ..Options::default()
        };
        options.check()?;
        Ok(options)
    }
}

fn chosen<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Result<T, Error> {
    let refuse = |cause| Error::new(format!("'{name}' is {cause}"));
    name.parse().map_err(refuse)
}

impl Network {
    /// Reads an ONNX file of this name.
    ///
    /// # Errors
    ///
    /// Where the bytes are of another format or damaged.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let network = Self {
            name: name.to_owned(),
            bytes,
            pictures: Vec::new(),
        };
        network.model()?;
        Ok(network)
    }

    fn model(&self) -> Result<Model, Error> {
        let parsed = Model::parse(Source::from_bytes(self.bytes.clone()));
        parsed.map_err(|error| Error::of(format!("cannot read '{}'", self.name), &error))
    }

    /// Adds a picture, PNG or JPEG, that the correction looks at.
    pub fn add_picture(&mut self, name: &str, bytes: Vec<u8>) {
        self.pictures.push((name.to_owned(), bytes));
    }

    /// Forgets all pictures.
    pub fn clear_pictures(&mut self) {
        self.pictures.clear();
    }

    /// What is known of its weights; the page is drawn with the levels of
    /// `bits`-bit quantizers.
    ///
    /// # Errors
    ///
    /// Where weights cannot be read or are not finite, or `bits` is not 1 to 8.
    pub fn inspect(&self, bits: u8, monitor: &dyn Monitor) -> Result<Inspected, Error> {
        let options = Options {
            bits,
            ..Options::default()
        };
        options.check()?;
        let inspection = inspect(&self.model()?, &self.name, monitor)?;
        Ok(Inspected {
            page: inspect_page(&inspection, bits),
            report: json(&inspection)?,
        })
    }

    /// What `campana quantize` makes of it, corrected on the pictures that were
    /// added or else on synthetic ones: the same bytes where nothing is corrected,
    /// or where float sums are rounded alike.
    ///
    /// # Errors
    ///
    /// As [`quantize_bytes`] and [`Choices`], and where pictures cannot be read.
    pub fn quantize(&self, choices: &Choices, monitor: &dyn Monitor) -> Result<Smaller, Error> {
        let options = choices.options()?;
        let name = smaller_name(&self.name, options.bits, options.target);
        let sidecar = choices.sidecar.as_ref();
        let sidecar = sidecar.map(|value| sidecar_of(&value.to_string()));
        let sidecar: Option<Sidecar> = sidecar.transpose()?;
        let is_corrected = choices.correct != Some(false);
        let is_run = is_corrected || options.target.rounds_activations();
        let pictures = (is_run && !self.pictures.is_empty()).then_some(&self.pictures);
        let samples = match (pictures, &sidecar) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(Error::new(
                    "pictures are prepared as the network's sidecar says: name one, or choose how values are scaled",
                ));
            }
            (Some(pictures), Some(sidecar)) => {
                let pictures = pictures.iter().map(|(name, bytes)| (&**name, &**bytes));
                let decoded = decode_pictures(&sidecar.preprocessing, pictures, monitor);
                Some(decoded?)
            }
        };
        let choice = match pictures {
            None => SampleChoice::Synthetic,
            Some(pictures) => SampleChoice::Images {
                data: Path::new("IMAGES"),
                count: pictures.len(),
            },
        };
        let job = QuantizeJob {
            samples: is_corrected.then_some(choice),
            range_samples: Some(choice),
            input_range: choices.input_range,
            ..QuantizeJob::new(self.name.as_ref(), name.as_ref(), &options)
        };
        let made = quantize_bytes(&job, self.bytes.clone(), sidecar.as_ref(), samples, monitor)?;
        let QuantizedBytes {
            model,
            report,
            page,
        } = made;
        Ok(Smaller {
            model,
            page,
            report: json(&report)?,
            name,
        })
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::new(error.to_string()))
}

/// The names of all methods, the default first.
pub fn methods() -> Vec<String> {
    MethodChoice::all()
        .map(|method| method.to_string())
        .collect()
}

/// The names of all targets that are one file, the default first.
pub fn targets() -> Vec<String> {
    let targets = Target::ALL.into_iter().filter(|target| !target.is_folder());
    targets.map(|target| target.to_string()).collect()
}

/// `net.onnx` becomes `net-4bit.onnx`, or `net-w4a8-4bit.onnx`.
fn smaller_name(name: &str, bits: u8, target: Target) -> String {
    let stem = name.strip_suffix(".onnx").unwrap_or(name);
    let form = match target.ending() {
        "onnx" if target != Target::Lut => format!("{target}-"),
        _ => String::new(),
    };
    format!("{stem}-{form}{bits}bit.{}", target.ending())
}

#[cfg(test)]
mod tests;
