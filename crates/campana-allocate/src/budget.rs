//! Widths of least divergence under a bound on bytes.

use std::collections::{BTreeMap, HashSet};

use campana_calibrate::Sensitivity;
use campana_codebook::Packing;
use campana_design::{Family, lloyd_max};
use campana_ir::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::Model;
use campana_quantize::kept::{check_patterns, keep, kept_beforehand};
use campana_quantize::weights::count;
use campana_quantize::{
    Error, ErrorKind, Options, Plan, PlannedTensor, Prices, Progress, QuantizedModel,
    SharedVectors, TensorChoice, TensorOutcome, check_cancelled, quantize_tensor, solved_weights,
};
use rayon::prelude::*;

/// How often widths are chosen anew after tensors were quantized and the bytes
/// they take are known.
const ROUNDS: usize = 16;

/// Share of the room that is given up at least where the same widths come out
/// again and do not fit.
const LEAST_STEP: f64 = 0.002;

/// What a quantized model may take.
pub enum Budget<'a> {
    /// Bits for a quantized weight, everything that is stored for it counted.
    BitsPerWeight(f64),
    /// Bytes of the whole output.
    OutputBytes {
        /// At most this many.
        most: u64,
        /// How many a quantized model takes.
        measure: &'a OutputLen<'a>,
    },
}

/// The bytes of a quantized model as it would be written.
pub type OutputLen<'a> = dyn Fn(&QuantizedModel<'_>) -> Result<u64, Error> + 'a;

impl Budget<'_> {
    /// Bits that a weight may take on average, of all that are free.
    fn bits_per_weight(&self, weights: usize) -> f64 {
        match self {
            Self::BitsPerWeight(bits) => *bits,
            Self::OutputBytes { most, .. } => 8.0 * *most as f64 / weights.max(1) as f64,
        }
    }

    /// Bytes that a model takes, and those that it may take.
    fn taken_and_allowed(&self, model: &QuantizedModel<'_>) -> Result<[f64; 2], Error> {
        match self {
            Self::BitsPerWeight(bits) => {
                let quantized = || model.tensors.iter().filter(|t| t.quantized.is_some());
                let weights: usize = quantized().map(|t| count(&t.tensor)).sum();
                let bytes: u64 = quantized().map(|t| t.report.output_bytes).sum();
                Ok([bytes as f64, bits * weights as f64 / 8.0])
            }
            Self::OutputBytes { most, measure } => Ok([measure(model)? as f64, *most as f64]),
        }
    }
}

/// A model quantized under a budget.
#[derive(Debug)]
pub struct Allocation<'m> {
    /// The model.
    pub quantized: QuantizedModel<'m>,
    /// What each weight tensor became.
    pub plan: Plan,
    /// Sum of the divergences that the tensors cause one by one.
    pub divergence: f64,
    /// Whether it is within the budget; if not, it is the smallest there is.
    pub is_within: bool,
}

/// Chooses widths, and remembers what it quantized: asking again under another
/// budget costs little.
#[derive(Debug)]
pub struct Allocator<'m> {
    setting: Setting<'m>,
    slots: Vec<Slot<'m>>,
}

/// What tensors are quantized by, whatever their width.
#[derive(Debug)]
struct Setting<'m> {
    model: &'m Model,
    options: Options,
    prices: Prices,
    /// The tensors that a correction solves.
    solved: HashSet<String>,
    vectors: SharedVectors,
}

/// A constant tensor of the model.
#[derive(Debug)]
struct Slot<'m> {
    tensor: ModelTensor<'m>,
    /// Why it stays float, whatever the budget.
    kept: Option<String>,
    /// Whether it gets no fewer bits than tensors have on average.
    is_underrated: bool,
    /// Ascending by bits; empty for what stays float.
    choices: Vec<Choice>,
    /// By bits and the logarithm of the price of a byte.
    quantized: BTreeMap<(u8, i32), TensorOutcome<'m>>,
}

/// A width that a tensor may get.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    bits: u8,
    /// Predicted, until the tensor is quantized so.
    bytes: f64,
    divergence: f64,
    /// What is minimized.
    cost: f64,
}

impl Choice {
    /// What is minimized where measured divergences are trusted so far, for a
    /// tensor that should have at least so many bits.
    fn cost(&self, trust: f64, fewest: f64) -> f64 {
        let cost = self.divergence.powf(trust) * error(self.bits).powf(1.0 - trust);
        if f64::from(self.bits) < fewest {
            TOO_FEW * cost
        } else {
            cost
        }
    }

    /// The logarithm to base 2 of the price of a byte, in relative squared
    /// error of the weights, that agrees with this price in costs.
    fn log_price(&self, price: f64) -> i32 {
        let price = price * error(self.bits) / self.cost.max(f64::MIN_POSITIVE);
        price.log2().round().clamp(-99.0, 0.0) as i32
    }
}

/// What makes bits for a tensor worth more than those for any other.
const TOO_FEW: f64 = 1e9;

/// Relative squared error of weights quantized to so many bits.
fn error(bits: u8) -> f64 {
    lloyd_max::table(Family::Gaussian, bits).mse
}

impl<'m> Allocator<'m> {
    /// An allocator for the weight tensors that `options` does not keep;
    /// `options.bits_for` gives tensors the only width that they may have.
    ///
    /// # Errors
    ///
    /// Where an option is out of range, or the sensitivity of a weight tensor
    /// is missing.
    pub fn new(
        model: &'m Model,
        options: &Options,
        sensitivities: &[Sensitivity],
    ) -> Result<Self, Error> {
        options.check()?;
        let tensors = constant_tensors(model);
        check_patterns(options, &tensors)?;
        let solved = match options.means_are_corrected {
            true => solved_weights(model, &tensors),
            false => HashSet::new(),
        };
        let slots: Vec<Slot<'_>> = tensors
            .into_iter()
            .map(|tensor| Slot::new(tensor, options, sensitivities))
            .collect::<Result<_, _>>()?;
        let free = || slots.iter().filter(|slot| slot.kept.is_none());
        let weights = free().map(|slot| count(&slot.tensor)).sum();
        let choices: Vec<(&ModelTensor<'_>, TensorChoice)> = free()
            .map(|slot| (&slot.tensor, options.choice_of(slot.tensor.name)))
            .collect();
        let all = free().flat_map(|slot| &slot.choices);
        let widths = all.map(|choice| choice.bits).collect();
        let vectors = SharedVectors::learn(model, &choices, &widths)?;
        let prices = Prices::new(free().count(), weights);
        Ok(Self {
            setting: Setting {
                model,
                options: options.clone(),
                prices,
                solved,
                vectors,
            },
            slots,
        })
    }

    /// The widths of least total cost within a budget, and the model quantized
    /// to them. The cost of a width is `divergence^trust * error^(1 - trust)`,
    /// with the relative squared error of the weights: with a trust of 1 the
    /// measured divergence, with 0 the same for all tensors. Divergences are
    /// measured one tensor at a time in a network that is float behind it, and
    /// do not know what layers behind it undo. A tensor whose divergence is
    /// [underrated](Sensitivity::is_underrated) gets no fewer bits than the
    /// budget gives tensors on average, rounded down.
    ///
    /// # Errors
    ///
    /// Where a tensor cannot be read or is not finite, the output's size cannot
    /// be measured, or `progress` says to stop.
    pub fn allocate(
        &mut self,
        budget: &Budget<'_>,
        trust: f64,
        progress: &dyn Progress,
    ) -> Result<Allocation<'m>, Error> {
        let weights: usize = self.free().map(|slot| count(&slot.tensor)).sum();
        let average = budget.bits_per_weight(weights).floor();
        for slot in &mut self.slots {
            let fewest = if slot.is_underrated { average } else { 0.0 };
            for choice in &mut slot.choices {
                choice.cost = choice.cost(trust, fewest);
            }
        }
        let mut room = match budget {
            Budget::BitsPerWeight(bits) => bits * weights as f64 / 8.0,
            Budget::OutputBytes { most, .. } => {
                // What is not in the tensors' bytes is known once they were quantized,
                // and in small networks decides what a byte is worth.
                let (picks, price) = choose(&self.choices(), *most as f64);
                self.quantize(&picks, price, progress)?;
                let [taken, allowed] = budget.taken_and_allowed(&self.assemble(&picks, price))?;
                allowed - (taken - self.bytes(&picks))
            }
        };
        let (_, price) = choose(&self.choices(), room);
        let mut best: Option<(f64, Vec<usize>)> = None;
        let mut seen: Vec<Vec<usize>> = Vec::new();
        let mut excess = 0.0;
        for _ in 0..ROUNDS {
            let (picks, _) = choose(&self.choices(), room);
            if seen.contains(&picks) {
                if best.is_some() {
                    break;
                }
                // Nothing fitted yet: less than what was too much.
                room -= excess;
                excess *= 2.0;
                continue;
            }
            self.quantize(&picks, price, progress)?;
            let [taken, allowed] = budget.taken_and_allowed(&self.assemble(&picks, price))?;
            let cost = self.picked(&picks).map(|(_, choice)| choice.cost).sum();
            let is_better = best.as_ref().is_none_or(|(least, _)| cost < *least);
            if taken <= allowed && is_better {
                best = Some((cost, picks.clone()));
            }
            // What is not in the tensors' bytes stays the same, near enough.
            room = allowed - (taken - self.bytes(&picks));
            excess = (taken - allowed).max(allowed * LEAST_STEP);
            seen.push(picks);
        }
        let is_within = best.is_some();
        let picks = match best {
            Some((_, picks)) => picks,
            None => {
                let picks = vec![0; self.free().count()];
                self.quantize(&picks, price, progress)?;
                picks
            }
        };
        let quantized = self.assemble(&picks, price);
        // Where no round came to an end within it, the smallest may still be.
        let is_within = is_within || {
            let [taken, allowed] = budget.taken_and_allowed(&quantized)?;
            taken <= allowed
        };
        Ok(Allocation {
            plan: self.plan(&picks, price),
            divergence: self.divergence(&picks),
            quantized,
            is_within,
        })
    }

    fn free(&self) -> impl Iterator<Item = &Slot<'m>> {
        self.slots.iter().filter(|slot| slot.kept.is_none())
    }

    fn choices(&self) -> Vec<&[Choice]> {
        self.free().map(|slot| slot.choices.as_slice()).collect()
    }

    fn picked(&self, picks: &[usize]) -> impl Iterator<Item = (&Slot<'m>, Choice)> {
        let picks = picks.iter();
        self.free()
            .zip(picks)
            .map(|(slot, &pick)| (slot, slot.choices[pick]))
    }

    fn bytes(&self, picks: &[usize]) -> f64 {
        self.picked(picks).map(|(_, choice)| choice.bytes).sum()
    }

    fn divergence(&self, picks: &[usize]) -> f64 {
        let picked = self.picked(picks);
        picked.map(|(_, choice)| choice.divergence).sum()
    }

    /// Quantizes what was not yet, and notes the bytes it takes.
    fn quantize(
        &mut self,
        picks: &[usize],
        price: f64,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let setting = &self.setting;
        let mut missing: Vec<(&mut Slot<'m>, usize)> = self
            .slots
            .iter_mut()
            .filter(|slot| slot.kept.is_none())
            .zip(picks.iter().copied())
            .filter(|(slot, pick)| !slot.quantized.contains_key(&slot.key(*pick, price)))
            .collect();
        let weights: usize = missing.iter().map(|(slot, _)| count(&slot.tensor)).sum();
        progress.start(weights as u64);
        let results: Vec<Result<(), Error>> = missing
            .par_iter_mut()
            .map(|(slot, pick)| {
                check_cancelled(progress)?;
                slot.quantize(*pick, price, setting)?;
                progress.tensor_done(slot.tensor.name, count(&slot.tensor) as u64);
                Ok(())
            })
            .collect();
        results.into_iter().collect()
    }

    fn assemble(&self, picks: &[usize], price: f64) -> QuantizedModel<'m> {
        let mut picks = picks.iter();
        let mut outcome = |slot: &Slot<'m>| match &slot.kept {
            Some(reason) => keep(slot.tensor.clone(), reason.clone()),
            None => {
                let pick = picks.next().map_or(0, |&pick| pick);
                slot.quantized[&slot.key(pick, price)].clone()
            }
        };
        QuantizedModel {
            tensors: self.slots.iter().map(&mut outcome).collect(),
            target: self.setting.options.target,
            effort: self.setting.options.effort,
        }
    }

    fn plan(&self, picks: &[usize], price: f64) -> Plan {
        let mut picks = picks.iter();
        let mut tensors = Vec::new();
        for slot in &self.slots {
            if !matches!(slot.tensor.role, Role::Weight { .. }) {
                continue;
            }
            let choice = match &slot.kept {
                Some(_) => None,
                None => picks.next().map(|&pick| slot.choices[pick]),
            };
            let TensorChoice {
                method,
                granularity,
                ..
            } = self.setting.options.choice_of(slot.tensor.name);
            tensors.push(PlannedTensor {
                name: slot.tensor.name.to_owned(),
                bits: choice.map(|choice| choice.bits),
                method,
                granularity,
                byte_price: choice.map(|choice| 2f64.powi(choice.log_price(price))),
                weights: count(&slot.tensor) as u64,
                divergence: choice.map(|choice| choice.divergence),
                bytes: choice.map_or(slot.float_bytes(), |choice| choice.bytes as u64),
            });
        }
        Plan { tensors }
    }
}

impl<'m> Slot<'m> {
    fn new(
        tensor: ModelTensor<'m>,
        options: &Options,
        sensitivities: &[Sensitivity],
    ) -> Result<Self, Error> {
        let kept = kept_beforehand(&tensor, options);
        let mut choices = Vec::new();
        let mut is_underrated = false;
        if kept.is_none() {
            let sensitivity = sensitivities.iter().find(|s| s.name == tensor.name);
            let Some(sensitivity) = sensitivity else {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("the sensitivity of tensor '{}' is not known", tensor.name),
                ));
            };
            is_underrated = sensitivity.is_underrated;
            let is_stated = options.bits_for(tensor.name).is_some();
            let is_depthwise = tensor.role.is_depthwise();
            choices = (1..)
                .zip(sensitivity.divergence)
                .filter(|(bits, _)| is_stated || options.target.has_width(*bits, is_depthwise))
                .map(|(bits, divergence)| Choice {
                    bits,
                    bytes: predicted_bytes(&tensor, bits),
                    divergence,
                    cost: divergence,
                })
                .collect();
            if let Some(only) = options.bits_for(tensor.name) {
                choices.retain(|choice| choice.bits == only);
            }
        }
        Ok(Self {
            tensor,
            kept,
            is_underrated,
            choices,
            quantized: BTreeMap::new(),
        })
    }

    /// What the tensor becomes at this width.
    fn tensor_choice(&self, bits: u8, options: &Options) -> TensorChoice {
        TensorChoice {
            bits: Some(bits),
            ..options.choice_of(self.tensor.name)
        }
    }

    fn key(&self, pick: usize, price: f64) -> (u8, i32) {
        let choice = self.choices[pick];
        (choice.bits, choice.log_price(price))
    }

    fn quantize(&mut self, pick: usize, price: f64, setting: &Setting<'_>) -> Result<(), Error> {
        let key = self.key(pick, price);
        let tensor_choice = TensorChoice {
            byte_price: Some(2f64.powi(key.1)),
            ..self.tensor_choice(self.choices[pick].bits, &setting.options)
        };
        let prices = match setting.solved.contains(self.tensor.name) {
            true => setting.prices.with_corrected_mean(),
            false => setting.prices,
        };
        let choice = &mut self.choices[pick];
        let mut outcome = quantize_tensor(
            setting.model,
            self.tensor.clone(),
            tensor_choice,
            prices,
            &setting.vectors,
        )?;
        choice.bytes = outcome.report.output_bytes as f64;
        if outcome.quantized.is_none() {
            (choice.divergence, choice.cost) = (0.0, 0.0);
        } else {
            outcome.report.divergence = Some(choice.divergence);
        }
        // Not `key`: a tensor that stays float has another cost now.
        self.quantized.insert(self.key(pick, price), outcome);
        Ok(())
    }

    fn float_bytes(&self) -> u64 {
        let bytes = self
            .tensor
            .proto
            .element_type
            .len_bytes(count(&self.tensor));
        bytes.unwrap_or(0) as u64
    }
}

/// Bytes of codes, one table and a scale of 8 bits for each channel.
fn predicted_bytes(tensor: &ModelTensor<'_>, bits: u8) -> f64 {
    let levels = 1usize << bits;
    let Role::Weight { channel_axis, .. } = tensor.role else {
        return 0.0;
    };
    let channels = channel_axis.and_then(|axis| tensor.proto.dims.get(axis));
    let codes = Packing::densest(levels).len_bytes(count(tensor));
    codes as f64 + 4.0 * levels as f64 + channels.map_or(1.0, |&channels| channels as f64)
}

/// For each tensor the position of the choice that it gets, and the price of a
/// byte at the margin: the sum of the costs is least and the sum of the bytes at most `room`: from the
/// smallest choices upwards, always the step that lowers the cost most
/// for its bytes, among those that fit. Up to the last steps these are the
/// optima of the Lagrangian `cost + price * bytes` for falling prices.
fn choose(tensors: &[&[Choice]], room: f64) -> (Vec<usize>, f64) {
    let smallest = |choices: &&[Choice]| {
        let order =
            (0..choices.len()).min_by(|&a, &b| choices[a].bytes.total_cmp(&choices[b].bytes));
        order.unwrap_or(0)
    };
    let mut picks: Vec<usize> = tensors.iter().map(smallest).collect();
    let bytes = |picks: &[usize]| -> f64 {
        let choices = tensors.iter().zip(picks);
        choices.map(|(choices, &pick)| choices[pick].bytes).sum()
    };
    let mut taken = bytes(&picks);
    let mut price = 0.0;
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        let mut steepest_beyond = 0f64;
        for (tensor, choices) in tensors.iter().enumerate() {
            let now = choices[picks[tensor]];
            for (pick, next) in choices.iter().enumerate() {
                let (more, gain) = (next.bytes - now.bytes, now.cost - next.cost);
                if gain <= 0.0 {
                    continue;
                }
                let slope = if more > 0.0 {
                    gain / more
                } else {
                    f64::INFINITY
                };
                if taken + more > room {
                    steepest_beyond = steepest_beyond.max(slope);
                } else if best.is_none_or(|(steepest, ..)| slope > steepest) {
                    best = Some((slope, tensor, pick));
                }
            }
        }
        let Some((slope, tensor, pick)) = best else {
            let is_full = steepest_beyond > 0.0 && steepest_beyond.is_finite();
            return (picks, if is_full { steepest_beyond } else { price });
        };
        if slope.is_finite() {
            price = slope;
        }
        picks[tensor] = pick;
        taken = bytes(&picks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(weights: f64, divergence: f64) -> Vec<Choice> {
        (1..=8)
            .map(|bits| Choice {
                bits,
                bytes: weights * f64::from(bits) / 8.0,
                divergence: divergence * 4f64.powi(-i32::from(bits)),
                cost: divergence * 4f64.powi(-i32::from(bits)),
            })
            .collect()
    }

    fn totals(tensors: &[&[Choice]], picks: &[usize]) -> [f64; 2] {
        let picked = tensors
            .iter()
            .zip(picks)
            .map(|(choices, &pick)| choices[pick]);
        picked.fold([0.0; 2], |[bytes, divergence], choice| {
            [bytes + choice.bytes, divergence + choice.divergence]
        })
    }

    /// All combinations.
    fn reference_choose(tensors: &[&[Choice]], room: f64) -> f64 {
        let combinations = tensors
            .iter()
            .map(|choices| choices.len())
            .product::<usize>();
        let mut least = f64::INFINITY;
        for mut combination in 0..combinations {
            let mut picks = Vec::new();
            for choices in tensors {
                picks.push(combination % choices.len());
                combination /= choices.len();
            }
            let [bytes, divergence] = totals(tensors, &picks);
            if bytes <= room && divergence < least {
                least = divergence;
            }
        }
        least
    }

    /// Greedy filling may lose this factor to the best combination where four
    /// tensors leave little to fill with.
    const MAX_EXCESS: f64 = 1.6;

    #[test]
    fn widths_are_near_the_best_combination() {
        let owned = [
            choices(800.0, 1.0),
            choices(8_000.0, 3.0),
            choices(1_600.0, 0.02),
            choices(24_000.0, 0.5),
        ];
        let tensors: Vec<&[Choice]> = owned.iter().map(Vec::as_slice).collect();
        for bits in [1.1, 1.7, 2.0, 2.5, 3.3, 4.8, 6.0] {
            let room = bits * 34_400.0 / 8.0;
            let (picks, price) = choose(&tensors, room);
            assert!(price > 0.0);
            let [bytes, divergence] = totals(&tensors, &picks);
            let least = reference_choose(&tensors, room);
            assert!(bytes <= room, "{bits} bits: {bytes} bytes of {room}");
            assert!(
                divergence <= MAX_EXCESS * least,
                "{bits} bits: {divergence}, best {least}"
            );
        }
    }

    #[test]
    fn sensitive_and_small_tensors_get_more_bits() {
        let owned = [
            choices(1_000.0, 1.0),
            choices(1_000.0, 64.0),
            choices(64_000.0, 1.0),
        ];
        let tensors: Vec<&[Choice]> = owned.iter().map(Vec::as_slice).collect();
        let (picks, _) = choose(&tensors, 3.0 * 66_000.0 / 8.0);
        // A factor of 64 is worth log4(64) = 3 bits, whether of divergence or
        // of size.
        assert_eq!(
            picks[1].saturating_sub(picks[0]),
            7usize.saturating_sub(picks[0]).min(3)
        );
        assert!(picks[0] >= picks[2] + 2, "{picks:?}");
    }

    #[test]
    fn underrated_tensors_get_the_average_where_there_is_room() {
        let choices_with = |fewest| {
            let mut choices = choices(64_000.0, 1e-6);
            for choice in &mut choices {
                choice.cost = choice.cost(1.0, fewest);
            }
            choices
        };
        let other = choices(64_000.0, 1.0);
        let bits = |average: f64, fewest: f64| {
            let last = choices_with(fewest);
            let (picks, _) = choose(&[&other, &last], average * 128_000.0 / 8.0);
            [other[picks[0]].bits, last[picks[1]].bits]
        };
        assert_eq!(bits(3.9, 0.0), [6, 1]);
        assert_eq!(bits(3.9, 3.0), [4, 3]);
    }

    #[test]
    fn what_does_not_fit_gets_the_smallest() {
        let owned = [choices(1_000.0, 1.0)];
        let tensors: Vec<&[Choice]> = owned.iter().map(Vec::as_slice).collect();
        assert_eq!(choose(&tensors, 10.0).0, [0]);
        assert_eq!(choose(&tensors, f64::INFINITY).0, [7]);
    }
}
