//! Options from keyword arguments; their defaults are in the Python part.

use std::path::PathBuf;

use campana_ir::format::onnx::InputShape;
use campana_ir::graph::Dim;
use campana_pipeline::{Bound, Overwrite, QuantizeJob, SampleChoice, parse_percent, parse_size};
use campana_quantize::{MethodChoice, Options, RateGoal, Target};
use pyo3::Bound as PyBound;
use pyo3::prelude::{FromPyObject, PyAny, PyAnyMethods as _, PyErr, PyResult};

use crate::data::{Arrays, Judge};
use crate::error::{ArgumentTypeError, argument, exception};

/// The keyword arguments of `quantize`, but for those of every job.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Keywords {
    bits: Option<i64>,
    average_bits: Option<f64>,
    max_size: Option<Size>,
    max_drop: Option<Share>,
    data: Option<PathBuf>,
    best_effort: bool,
    plan: Option<PathBuf>,
    method: String,
    granularity: Option<String>,
    keep: Vec<String>,
    bits_for: Vec<(String, i64)>,
    correct: bool,
    calibrate: Option<Data>,
    samples: usize,
    input_range: Option<(f32, f32)>,
    shape: Shapes,
    resume: Option<PathBuf>,
    target: String,
    activation_ranges: String,
    round_all_activations: bool,
    effort: String,
    distill: Option<String>,
    rate: Option<f64>,
    sparsity: Option<Share>,
    report: Option<PathBuf>,
    force: bool,
}

/// What a correction looks at.
#[derive(FromPyObject)]
enum Data {
    Path(PathBuf),
    Arrays(Arrays),
}

/// An extent of an input: a number, or what stays open under a name or none.
#[derive(FromPyObject)]
pub(crate) enum Extent {
    Fixed(i64),
    Open(Option<String>),
}

impl Extent {
    fn dim(&self) -> PyResult<Dim> {
        match self {
            Self::Open(name) => Ok(Dim::Symbol(name.clone().unwrap_or_default())),
            Self::Fixed(extent) => match usize::try_from(*extent) {
                Ok(extent @ 1..) => Ok(Dim::Fixed(extent)),
                _ => Err(argument(format!(
                    "shape: {extent} is no extent; write a whole number from 1, or None for one that stays open"
                ))),
            },
        }
    }
}

/// Bytes, or a number with a unit.
#[derive(FromPyObject)]
pub(crate) enum Size {
    Bytes(i64),
    Text(String),
}

impl Size {
    /// At least one byte; `name` is the argument's.
    pub(crate) fn bytes(&self, name: &str) -> PyResult<u64> {
        let bytes = match self {
            Self::Text(text) => parse_size(text).map_err(|error| wrong(name, text, error))?,
            Self::Bytes(bytes) => u64::try_from(*bytes).unwrap_or(0),
        };
        match bytes {
            0 => Err(argument(format!("{name} must be 1 byte or more"))),
            bytes => Ok(bytes),
        }
    }
}

#[derive(FromPyObject)]
enum Share {
    Fraction(f64),
    Text(String),
}

impl Share {
    fn value(&self, name: &str) -> PyResult<f64> {
        match self {
            Self::Text(text) => parse_percent(text).map_err(|error| wrong(name, text, error)),
            Self::Fraction(share) if (0.0..1.0).contains(share) => Ok(*share),
            Self::Fraction(share) => Err(argument(format!(
                "{name} must be a share below 1 (0.01 is one percent), or a percentage as '1%', not {share}"
            ))),
        }
    }
}

impl Keywords {
    /// The keywords of a call.
    pub(crate) fn of(given: &PyBound<'_, PyAny>) -> PyResult<Self> {
        given.extract().map_err(|error: PyErr| {
            let py = given.py();
            match error.cause(py) {
                Some(cause) => {
                    ArgumentTypeError::new_err(format!("{}: {}", error.value(py), cause.value(py)))
                }
                None => ArgumentTypeError::new_err(error.value(py).to_string()),
            }
        })
    }

    /// What becomes of the weights; reads the plan where one is to be applied.
    pub(crate) fn options(&self) -> PyResult<Options> {
        let method: MethodChoice = parse("method", &self.method)?;
        let granularity = match &self.granularity {
            Some(text) => parse("granularity", text)?,
            None => method.default_granularity(),
        };
        let target: Target = parse("target", &self.target)?;
        let bits = match self.bits {
            Some(bits) => width("bits", bits)?,
            None => target.default_bits(),
        };
        let keep = self.keep.iter().map(|pattern| parse("keep", pattern));
        let bits_for = self.bits_for.iter().map(|(pattern, bits)| {
            let name = format!("bits_for '{pattern}'");
            Ok((parse("bits_for", pattern)?, width(&name, *bits)?))
        });
        let options = Options {
            bits,
            method,
            granularity,
            keep: keep.collect::<PyResult<_>>()?,
            bits_for: bits_for.collect::<PyResult<_>>()?,
            plan: None,
            means_are_corrected: self.correct,
            rate: self.goal()?,
            target,
            activation_ranges: parse("activation_ranges", &self.activation_ranges)?,
            round_all_activations: self.round_all_activations,
            effort: parse("effort", &self.effort)?,
        };
        self.check(&options)?;
        let plan = match &self.plan {
            Some(plan) if self.applies_plan() => {
                Some(campana_pipeline::read_plan(plan).map_err(exception)?)
            }
            _ => None,
        };
        Ok(Options { plan, ..options })
    }

    /// What codes for the entropy coder keep to.
    fn goal(&self) -> PyResult<Option<RateGoal>> {
        match (self.rate, &self.sparsity) {
            (Some(_), Some(_)) => Err(argument("give one of rate and sparsity")),
            (Some(rate), None) => Ok(Some(RateGoal::Bits(rate))),
            (None, Some(share)) => Ok(Some(RateGoal::Zeros(share.value("sparsity")?))),
            (None, None) => Ok(None),
        }
    }

    /// Refuses what the command line refuses: options that would not act.
    fn check(&self, options: &Options) -> PyResult<()> {
        let bounds = [
            self.bits.is_some(),
            self.average_bits.is_some(),
            self.max_size.is_some(),
            self.max_drop.is_some(),
        ];
        let is_bounded = self.bound()?.is_some();
        let is_fixed = !self.bits_for.is_empty()
            || self.granularity.is_some()
            || self.method != MethodChoice::Auto.to_string();
        let refusals = [
            (
                bounds.into_iter().filter(|&is_given| is_given).count() > 1,
                "give one of bits, average_bits, max_size and max_drop",
            ),
            (
                self.data.is_some() && self.max_drop.is_none(),
                "data is what max_drop is measured on: add max_drop",
            ),
            (
                self.best_effort && !is_bounded,
                "best_effort is about a bound: add max_size, max_drop or average_bits",
            ),
            (
                options.rate.is_some() && options.target != Target::Campana,
                "rate and sparsity are for the entropy coder of the container: add target='campana'",
            ),
            (
                self.rate.is_some_and(|rate| !(0.1..=8.0).contains(&rate)),
                "rate must be a number of bits from 0.1 to 8",
            ),
            (
                options.rate.is_some()
                    && (self.bits.is_some() || is_bounded || is_fixed || self.plan.is_some()),
                "rate and sparsity choose codes: leave out bits, average_bits, max_size, max_drop, plan, bits_for, method and granularity",
            ),
            (self.samples == 0, "samples must be 1 or more"),
            (
                self.calibrate.is_some() && !self.correct && !options.target.rounds_activations(),
                "calibrate is what the correction looks at, which correct=False leaves out",
            ),
            (
                self.input_range.is_some() && self.calibrate.is_some(),
                "input_range is for synthetic images; leave it out beside calibrate",
            ),
            (
                self.input_range.is_some_and(|(low, high)| {
                    !(low.is_finite() && high.is_finite() && low < high)
                }),
                "input_range is (lo, hi) with lo below hi, for example (0, 255)",
            ),
            (
                self.resume.is_some() && !self.correct,
                "resume names the journal of the correction, which correct=False leaves out",
            ),
        ];
        match refusals.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, message)) => Err(argument(message)),
            None => Ok(()),
        }
    }

    /// What the result must keep to.
    fn bound(&self) -> PyResult<Option<Bound<'_>>> {
        if let Some(bits) = self.average_bits {
            if !(1.0..=8.0).contains(&bits) {
                return Err(argument(format!(
                    "average_bits must be a number from 1 to 8, not {bits}"
                )));
            }
            return Ok(Some(Bound::BitsPerWeight(bits)));
        }
        if let Some(size) = &self.max_size {
            return Ok(Some(Bound::OutputBytes(size.bytes("max_size")?)));
        }
        let Some(share) = &self.max_drop else {
            return Ok(None);
        };
        let most = share.value("max_drop")?;
        let data = self.data.as_deref();
        Ok(Some(Bound::Drop { most, data }))
    }

    /// Whether the plan is there to be applied, rather than to be written.
    fn applies_plan(&self) -> bool {
        self.bits.is_none()
            && self.average_bits.is_none()
            && self.max_size.is_none()
            && self.max_drop.is_none()
    }

    /// The shapes of inputs that the model leaves open.
    pub(crate) fn shapes(&self) -> PyResult<Vec<InputShape>> {
        stated(&self.shape)
    }

    /// The job from file to file.
    pub(crate) fn job<'a>(
        &'a self,
        [input, output]: [&'a std::path::Path; 2],
        options: &'a Options,
        shapes: &'a [InputShape],
        judge: Option<&'a Judge<'a>>,
        threads: usize,
    ) -> PyResult<QuantizeJob<'a>> {
        let chosen = match &self.calibrate {
            Some(Data::Path(data)) => SampleChoice::Images {
                data,
                count: self.samples,
            },
            Some(Data::Arrays(Arrays(arrays))) => SampleChoice::Arrays {
                arrays,
                count: self.samples,
            },
            None => SampleChoice::Synthetic,
        };
        let saved_plan = self.plan.as_deref().filter(|_| !self.applies_plan());
        Ok(QuantizeJob {
            samples: self.correct.then_some(chosen),
            range_samples: Some(chosen),
            input_range: self.input_range.map(<[f32; 2]>::from),
            shapes,
            threads,
            page: self.report.as_deref(),
            overwrite: Overwrite::from_force(self.force),
            bound: match (self.bound()?, judge) {
                (Some(Bound::Drop { most, .. }), Some(judge)) => Some(Bound::DropOf {
                    most,
                    measure: judge,
                }),
                (bound, _) => bound,
            },
            best_effort: self.best_effort,
            save_plan: saved_plan,
            applied_plan: self.plan.as_deref().filter(|_| self.applies_plan()),
            resume: self.resume.as_deref(),
            distill: match &self.distill {
                Some(budget) => Some(parse("distill", budget)?),
                None => None,
            },
            ..QuantizeJob::new(input, output, options)
        })
    }
}

/// Shapes of inputs by name, or of the only one.
pub(crate) type Shapes = Vec<(Option<String>, Vec<Extent>)>;

/// Shapes as the command states them.
pub(crate) fn stated(shapes: &Shapes) -> PyResult<Vec<InputShape>> {
    let shapes = shapes.iter().map(|(input, extents)| {
        Ok(InputShape {
            input: input.clone(),
            dims: extents.iter().map(Extent::dim).collect::<PyResult<_>>()?,
        })
    });
    shapes.collect()
}

/// A bit width: 1 to 8.
pub(crate) fn width(name: &str, bits: i64) -> PyResult<u8> {
    u8::try_from(bits)
        .ok()
        .filter(|bits| (1..=8).contains(bits))
        .ok_or_else(|| {
            argument(format!(
                "{name} must be a whole number from 1 to 8, not {bits}"
            ))
        })
}

fn parse<T: std::str::FromStr>(name: &str, text: &str) -> PyResult<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| wrong(name, text, error))
}

fn wrong(name: &str, text: &str, error: impl std::fmt::Display) -> PyErr {
    argument(format!("{name} '{text}': {error}"))
}
