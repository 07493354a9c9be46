//! What each tensor becomes, as a file that people read and edit.

use std::collections::HashSet;
use std::fmt;

use campana_tensor::Granularity;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, MethodChoice};

/// The version of the file's format.
const VERSION: u32 = 1;

/// What the file says of itself.
const HEADER: &str = "\
# How each weight tensor is quantized. Edit bits (1 to 8, or 0 to keep the tensor
# float), method and granularity (tensor, channel or group=N), and apply it with
# campana quantize MODEL -o OUTPUT --plan FILE
# Where the method is auto, byte_price is the relative error of the layer's outputs that
# a byte must save to be worth it: the higher, the fewer scales and codebooks.
# What it says of weights, divergence and bytes is not read: how many weights there
# are, how far the network's outputs were measured to be from those of the float
# network with this tensor alone quantized, and the bytes stored.
";

/// How every weight tensor of a model is quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The weight tensors, in the file's order.
    pub tensors: Vec<PlannedTensor>,
}

/// How one tensor is quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    /// The tensor's name.
    pub name: String,
    /// Bits of a code, 1 to 8; `None` to keep it float.
    pub bits: Option<u8>,
    /// How levels are designed.
    pub method: MethodChoice,
    /// What shares a codebook or a scale.
    pub granularity: Granularity,
    /// Relative output error that a byte must save to be worth it, where the
    /// method `auto` chooses among scales and codebooks.
    pub byte_price: Option<f64>,
    /// Number of weights.
    pub weights: u64,
    /// Divergence of the network's outputs with this tensor alone quantized so;
    /// `None` where that was not measured.
    pub divergence: Option<f64>,
    /// Bytes it is stored in.
    pub bytes: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    tensor: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    bits: u8,
    method: String,
    granularity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    byte_price: Option<f64>,
    #[serde(default)]
    weights: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    divergence: Option<f64>,
    #[serde(default)]
    bytes: u64,
}

impl Plan {
    /// The plan in the text of a file.
    ///
    /// # Errors
    ///
    /// Where the text is no TOML, has keys of another kind, or asks for what
    /// does not exist; the message names the place.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: File = toml::from_str(text)
            .map_err(|error| invalid(format!("not a plan: {}", error.to_string().trim_end())))?;
        if file.version != VERSION {
            return Err(invalid(format!(
                "the plan is of version {}, but this campana reads version {VERSION}",
                file.version
            )));
        }
        let tensors: Vec<PlannedTensor> = file
            .tensor
            .into_iter()
            .map(PlannedTensor::from_entry)
            .collect::<Result<_, _>>()?;
        let mut names = HashSet::with_capacity(tensors.len());
        for tensor in &tensors {
            if !names.insert(&tensor.name) {
                return Err(invalid(format!(
                    "the plan names tensor '{}' twice",
                    tensor.name
                )));
            }
        }
        Ok(Self { tensors })
    }

    /// What is planned for the tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&PlannedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// An error where the plan and a model do not name the same weight tensors.
    pub(crate) fn check_names(&self, weights: &[&str]) -> Result<(), Error> {
        if let Some(tensor) = self
            .tensors
            .iter()
            .find(|tensor| !weights.contains(&&*tensor.name))
        {
            return Err(invalid(format!(
                "the plan names '{}', which is no weight tensor of the model; `campana inspect` lists their names",
                tensor.name
            )));
        }
        match weights.iter().find(|name| self.tensor(name).is_none()) {
            Some(name) => Err(invalid(format!(
                "the plan says nothing of the weight tensor '{name}'; add it, with bits = 0 to keep it float"
            ))),
            None => Ok(()),
        }
    }
}

/// The text of the plan's file.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |tensor: &PlannedTensor| Entry {
            name: tensor.name.clone(),
            bits: tensor.bits.unwrap_or(0),
            method: tensor.method.to_string(),
            granularity: tensor.granularity.to_string(),
            byte_price: tensor.byte_price,
            weights: tensor.weights,
            divergence: tensor.divergence,
            bytes: tensor.bytes,
        };
        let file = File {
            version: VERSION,
            tensor: self.tensors.iter().map(entry).collect(),
        };
        let text = toml::to_string(&file).map_err(|_| fmt::Error)?;
        write!(f, "{HEADER}{text}")
    }
}

impl PlannedTensor {
    fn from_entry(entry: Entry) -> Result<Self, Error> {
        let of =
            |problem: String| invalid(format!("tensor '{}' of the plan: {problem}", entry.name));
        let bits = match entry.bits {
            0 => None,
            bits @ 1..=8 => Some(bits),
            bits => {
                return Err(of(format!(
                    "bits must be a whole number from 1 to 8, or 0 to keep it float, not {bits}"
                )));
            }
        };
        Ok(Self {
            bits,
            method: entry
                .method
                .parse()
                .map_err(|problem| of(format!("method '{}': {problem}", entry.method)))?,
            granularity: entry
                .granularity
                .parse()
                .map_err(|problem| of(format!("granularity '{}': {problem}", entry.granularity)))?,
            byte_price: match entry.byte_price {
                Some(price) if !price.is_finite() || price < 0.0 => {
                    return Err(of(format!(
                        "byte_price must be a number from 0 on, not {price}"
                    )));
                }
                price => price,
            },
            weights: entry.weights,
            divergence: entry.divergence,
            bytes: entry.bytes,
            name: entry.name,
        })
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let tensor = |name: &str, bits, method: &str, granularity| PlannedTensor {
            name: name.to_owned(),
            bits,
            method: method.parse().unwrap(),
            granularity,
            byte_price: Some(1.5e-6),
            weights: 432,
            divergence: Some(0.001_25),
            bytes: 400,
        };
        Plan {
            tensors: vec![
                tensor("a\"b/\u{e9}", Some(3), "auto", Granularity::PerChannel),
                tensor("conv", Some(8), "kmeans", Granularity::PerGroup(16)),
                tensor("fc", None, "ks", Granularity::PerTensor),
            ],
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let text = plan().to_string();
        assert!(text.starts_with("# How each weight tensor"), "{text}");
        assert_eq!(Plan::parse(&text).unwrap(), plan());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let good = plan().to_string();
        for (from, to, expected) in [
            (
                "bits = 8",
                "bits = 9",
                "tensor 'conv' of the plan: bits must be",
            ),
            ("bits = 8", "bits = -1", "not a plan"),
            ("\"kmeans\"", "\"best\"", "method 'best': not a method"),
            ("\"group=16\"", "\"group=0\"", "granularity 'group=0'"),
            ("version = 1", "version = 7", "version 7"),
            (
                "byte_price = 0.0000015",
                "byte_price = -1.0",
                "byte_price must be",
            ),
            ("\"fc\"", "\"conv\"", "names tensor 'conv' twice"),
            ("bits = 8", "bit = 8", "unknown field `bit`"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            let message = Plan::parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn plan_and_model_name_the_same_tensors() {
        let plan = plan();
        plan.check_names(&["fc", "conv", "a\"b/\u{e9}"]).unwrap();
        let message = plan.check_names(&["fc", "conv"]).unwrap_err().to_string();
        assert!(message.contains("is no weight tensor"), "{message}");
        let names = ["fc", "conv", "a\"b/\u{e9}", "new"];
        let message = plan.check_names(&names).unwrap_err().to_string();
        assert!(
            message.contains("says nothing of the weight tensor 'new'"),
            "{message}"
        );
    }
}
