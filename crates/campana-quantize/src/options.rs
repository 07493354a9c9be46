//! What the user can choose.

use std::str::FromStr;

use campana_tensor::Granularity;

use crate::activation::RangeMethod;
use crate::choice::{DEFAULT_BITS, Effort, GRID_BITS, MethodChoice, Target, TensorChoice};
use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::vectors::dimension;

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
    /// Whether a correction will follow: errors of the mean
    /// of a channel then count nothing where `auto` chooses.
    pub means_are_corrected: bool,
    /// What codes for the container's entropy coder keep to, instead of a
    /// width.
    pub rate: Option<RateGoal>,
    /// The form in which the model is written.
    pub target: Target,
    /// How ranges of activations are chosen, where the target rounds them.
    pub activation_ranges: RangeMethod,
    /// Whether activations are rounded also where their rounding makes up most
    /// of the error of the outputs.
    pub round_all_activations: bool,
    /// How much time the correction may take.
    pub effort: Effort,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: DEFAULT_BITS,
            method: MethodChoice::Auto,
            granularity: Granularity::PerChannel,
            keep: Vec::new(),
            bits_for: Vec::new(),
            plan: None,
            means_are_corrected: false,
            rate: None,
            target: Target::Lut,
            activation_ranges: RangeMethod::Auto,
            round_all_activations: false,
            effort: Effort::Full,
        }
    }
}

impl Options {
    /// Whether every choice is in its range.
    ///
    /// # Errors
    ///
    /// Where a bit width is not 1 to 8, a group is empty, or there is a rate for
    /// another form than the container.
    pub fn check(&self) -> Result<(), Error> {
        let widths = self.bits_for.iter().map(|(_, bits)| *bits);
        for bits in widths.chain([self.bits]) {
            if !(1..=8).contains(&bits) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("bits must be a whole number from 1 to 8, not {bits}"),
                ));
            }
            if self.target == Target::TfLite && bits < GRID_BITS {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "TFLite has weights of {GRID_BITS} and 8 bits, none of {bits}; the target tflm has codes of 1 to 7"
                    ),
                ));
            }
        }
        if self.method == MethodChoice::Vectors && dimension(self.bits).is_none() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the method {} takes 1, 2 or 4 bits a weight, a byte for 8, 4 or 2 of them, not {}",
                    self.method, self.bits
                ),
            ));
        }
        if self.rate.is_some() && self.method == MethodChoice::Vectors {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a rate is for scalar codes, not for those of vectors (the method vq)".to_owned(),
            ));
        }
        if self.target == Target::TfLiteMicro && self.method == MethodChoice::Vectors {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "TFLite Micro looks up codes of single weights, not of vectors (the method vq)"
                    .to_owned(),
            ));
        }
        if self.rate.is_some() && self.target != Target::Campana {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a rate is for the entropy coder of the container, not for the form {}",
                    self.target
                ),
            ));
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
                scalar_codes: false,
                on_grid: false,
                stored_as_integers: false,
            },
            |planned| TensorChoice {
                bits: planned.bits,
                method: planned.method,
                granularity: planned.granularity,
                byte_price: planned.byte_price,
                on_integers: false,
                scalar_codes: false,
                on_grid: false,
                stored_as_integers: false,
            },
        );
        TensorChoice {
            bits: self.bits_for(name).or(planned.bits),
            on_integers: self.target.rounds_activations(),
            scalar_codes: self.rate.is_some() || self.target == Target::TfLiteMicro,
            on_grid: self.target == Target::TfLite,
            stored_as_integers: self.target.stores_integers(),
            ..planned
        }
    }

    /// Bits that `bits_for` gives a weight tensor; the last match counts.
    pub fn bits_for(&self, name: &str) -> Option<u8> {
        let mut patterns = self.bits_for.iter().rev();
        let special = patterns.find(|(pattern, _)| pattern.matches(name));
        special.map(|(_, bits)| *bits)
    }
}

/// What codes for an entropy coder keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateGoal {
    /// At most this many bits a weight, from 0.1 to 8.
    Bits(f64),
    /// At least this share of the weights is zero, above 0 and below 1: zeros
    /// are the cheapest codes, so that pruning is a question of the rate.
    Zeros(f64),
}

impl RateGoal {
    /// What a model may have at most: bits a weight, or the share of weights
    /// that are not zero.
    pub fn limit(self) -> f64 {
        match self {
            Self::Bits(bits) => bits,
            Self::Zeros(share) => 1.0 - share,
        }
    }

    /// Whether the goal is in its range.
    ///
    /// # Errors
    ///
    /// Where it is not.
    pub fn check(self) -> Result<(), Error> {
        let message = match self {
            Self::Bits(bits) if !(0.1..=8.0).contains(&bits) => {
                format!("the rate must be 0.1 to 8 bits a weight, not {bits}")
            }
            Self::Zeros(share) if !(share > 0.0 && share < 1.0) => {
                format!("the share of zeros must be above 0 and below 1, not {share}")
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidArgument, message))
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
    fn widths_that_a_target_lacks_are_refused() {
        let options = |target, bits| Options {
            target,
            bits,
            ..Options::default()
        };
        let error = options(Target::TfLite, 3).check().unwrap_err();
        assert!(error.to_string().contains("4 and 8 bits"), "{error}");
        assert!(options(Target::TfLite, 4).check().is_ok());
        let narrow = Options {
            bits_for: vec![("a".parse().unwrap(), 2)],
            ..options(Target::TfLite, 8)
        };
        assert!(narrow.check().is_err());
        assert!(options(Target::TfLiteMicro, 1).check().is_ok());
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
