//! What the user can choose.

use std::fmt;
use std::str::FromStr;

use campana_design::Method;
use campana_tensor::Granularity;

use crate::{Error, ErrorKind, Plan, RangeMethod, RateGoal};

/// Everything that decides what becomes of a model.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bits of a code: 1 to 8.
    pub bits: u8,
    /// How levels are designed.
    pub method: MethodChoice,
    /// What shares a codebook or a scale.
    pub granularity: Granularity,
    /// Weight tensors that stay float.
    pub keep: Vec<NamePattern>,
    /// Bits of some weight tensors; the last match counts.
    pub bits_for: Vec<(NamePattern, u8)>,
    /// What each weight tensor becomes, where that is planned; comes before
    /// all of the above but `keep` and `bits_for`.
    pub plan: Option<Plan>,
    /// Whether [`correct`](crate::correct()) will follow: errors of the mean
    /// of a channel then count nothing where `auto` chooses.
    pub means_are_corrected: bool,
    /// What codes for the container's entropy coder keep to, instead of a
    /// width; see [`quantize_at_rate`](crate::quantize_at_rate).
    pub rate: Option<RateGoal>,
    /// The form in which the model is written.
    pub target: Target,
    /// How ranges of activations are chosen, where the target rounds them.
    pub activation_ranges: RangeMethod,
    /// How much time the correction may take.
    pub effort: Effort,
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

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: 4,
            method: MethodChoice::Auto,
            granularity: Granularity::PerChannel,
            keep: Vec::new(),
            bits_for: Vec::new(),
            plan: None,
            means_are_corrected: false,
            rate: None,
            target: Target::Lut,
            activation_ranges: RangeMethod::Mse,
            effort: Effort::Full,
        }
    }
}

impl Options {
    /// Whether every choice is in its range.
    ///
    /// # Errors
    ///
    /// Where a bit width is not 1 to 8, or a group is empty.
    pub fn check(&self) -> Result<(), Error> {
        let widths = self.bits_for.iter().map(|(_, bits)| *bits);
        for bits in widths.chain([self.bits]) {
            if !(1..=8).contains(&bits) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("bits must be a whole number from 1 to 8, not {bits}"),
                ));
            }
        }
        if self.granularity == Granularity::PerGroup(0) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a group must have at least one weight".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether every pattern fits one of these weight tensors: one that fits
    /// none is a typing error that would go unnoticed.
    ///
    /// # Errors
    ///
    /// Where one fits none.
    pub fn check_names(&self, weights: &[&str]) -> Result<(), Error> {
        let keep = self.keep.iter().map(|pattern| ("--keep", pattern));
        let bits_for = self
            .bits_for
            .iter()
            .map(|(pattern, _)| ("--bits-for", pattern));
        for (option, pattern) in keep.chain(bits_for) {
            if !weights.iter().any(|name| pattern.matches(name)) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "{option} '{}' fits no weight tensor of the model; `campana inspect` lists their names",
                        pattern.as_str()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether the weight tensor of this name stays float.
    pub fn keeps(&self, name: &str) -> bool {
        self.keep.iter().any(|pattern| pattern.matches(name))
    }

    /// What becomes of the weight tensor of this name; `keep` is not looked
    /// at.
    pub fn choice_of(&self, name: &str) -> TensorChoice {
        let planned = self.plan.as_ref().and_then(|plan| plan.tensor(name));
        let planned = planned.map_or(
            TensorChoice {
                bits: Some(self.bits),
                method: self.method,
                granularity: self.granularity,
                byte_price: None,
                on_integers: false,
            },
            |planned| TensorChoice {
                bits: planned.bits,
                method: planned.method,
                granularity: planned.granularity,
                byte_price: planned.byte_price,
                on_integers: false,
            },
        );
        TensorChoice {
            bits: self.bits_for(name).or(planned.bits),
            on_integers: self.target.rounds_activations(),
            ..planned
        }
    }

    /// Bits that `bits_for` gives a weight tensor; the last match counts.
    pub(crate) fn bits_for(&self, name: &str) -> Option<u8> {
        let mut patterns = self.bits_for.iter().rev();
        let special = patterns.find(|(pattern, _)| pattern.matches(name));
        special.map(|(_, bits)| *bits)
    }
}

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
}

/// A method, or the choice among all of them by what they measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodChoice {
    /// For each tensor the design with the least measured error at equal
    /// stored bytes.
    Auto,
    /// One method for all tensors.
    Fixed(Method),
}

impl MethodChoice {
    /// The granularity that a method has where none is chosen: per tensor, as
    /// the methods are defined; `auto` decides per channel what pays.
    pub fn default_granularity(self) -> Granularity {
        match self {
            Self::Auto => Granularity::PerChannel,
            Self::Fixed(_) => Granularity::PerTensor,
        }
    }
}

impl fmt::Display for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(method) => method.fmt(f),
        }
    }
}

impl FromStr for MethodChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Fixed).map_err(|_| {
            let names: Vec<String> = Method::ALL.iter().map(ToString::to_string).collect();
            format!("not a method: use auto, {}", names.join(", "))
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
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 6] = [
        Self::Lut,
        Self::LutUint4,
        Self::W4a8,
        Self::Int8,
        Self::Float,
        Self::Campana,
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
        }
    }
}

impl Target {
    /// Bits of a code where none are asked for.
    pub fn default_bits(self) -> u8 {
        match self {
            Self::Int8 => 8,
            _ => Options::default().bits,
        }
    }

    /// Whether activations are rounded to 8 bits.
    pub fn rounds_activations(self) -> bool {
        matches!(self, Self::W4a8 | Self::Int8)
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

/// A pattern of tensor names: `*` is any run of characters, `?` any one,
/// `[ab]` one of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(glob::Pattern);

impl NamePattern {
    /// Whether the whole name fits the pattern, or equals its text (names
    /// with brackets in them need not be escaped).
    pub fn matches(&self, name: &str) -> bool {
        self.0.as_str() == name || self.0.matches(name)
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        glob::Pattern::new(text).map(Self).map_err(|error| {
            format!(
                "not a name pattern: {} at character {}",
                error.msg,
                error.pos + 1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_decides_the_bits() {
        let options = Options {
            bits_for: vec![
                ("layer*".parse().unwrap(), 3),
                ("layer?/fc".parse().unwrap(), 8),
            ],
            ..Options::default()
        };
        let bits = ["conv", "layer1/conv", "layer1/fc"].map(|name| options.choice_of(name).bits);
        assert_eq!(bits, [4, 3, 8].map(Some));
    }

    #[test]
    fn names_with_brackets_match_themselves() {
        assert!("w[0]".parse::<NamePattern>().unwrap().matches("w[0]"));
        assert!("a/*".parse::<NamePattern>().unwrap().matches("a/b/c"));
    }

    #[test]
    fn bits_out_of_range_are_refused() {
        for bits in [0, 9] {
            let options = Options {
                bits,
                ..Options::default()
            };
            let message = options.check().unwrap_err().to_string();
            assert!(message.contains("1 to 8"), "{message}");
        }
    }
}
