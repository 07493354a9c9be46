//! What is learned: values before they are rounded to what is stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage, VectorCodes};
use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_quantize::graph::{replace, unsupported};
use campana_quantize::outcome::clip;
use campana_quantize::{Error, QuantizedModel, sqnr_db};
use campana_tensor::TensorData;
use rayon::prelude::*;

use crate::correct::state::uses;
use crate::distill::adam::Adam;

/// Share of the length of a layer's rows of weights that a step of its bias is
/// measured by, beside the bias itself.
const BIAS_UNIT: f32 = 0.1;

/// All that is learned of a network.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    slots: Vec<Slot>,
    coded: Vec<Coded>,
    kept: Vec<Kept>,
}

/// Values that are learned together.
#[derive(Clone, Debug)]
struct Slot {
    values: Vec<f32>,
    /// The size of a step for each; 0 for what stays.
    units: Vec<f32>,
    /// Where values are held.
    bounds: [f32; 2],
}

impl Slot {
    fn new(values: &[f32], unit: impl Fn(f32) -> f32) -> Self {
        Self {
            units: values.iter().map(|&value| unit(value)).collect(),
            values: values.to_vec(),
            bounds: [f32::NEG_INFINITY, f32::INFINITY],
        }
    }

    fn of_units(values: &[f32], units: Vec<f32>) -> Self {
        Self {
            units,
            ..Self::new(values, |_| 0.0)
        }
    }

    fn within(mut self, bounds: [f32; 2]) -> Self {
        self.bounds = bounds;
        self
    }
}

/// A tensor of codes, and which slots have what its codes mean.
#[derive(Clone, Debug)]
struct Coded {
    place: usize,
    name: String,
    /// As it would be stored now.
    tensor: QuantizedTensor,
    /// The codes of its weights, or the numbers of their vectors.
    codes: Vec<u8>,
    levels: Option<usize>,
    vectors: Option<usize>,
    scale: Option<usize>,
    shift: Option<usize>,
}

/// A constant that stays float.
#[derive(Clone, Debug)]
struct Kept {
    place: usize,
    name: String,
    slot: usize,
}

impl Coded {
    fn new(place: usize, name: &str, tensor: &QuantizedTensor) -> Self {
        Self {
            place,
            name: name.to_owned(),
            codes: match &tensor.packing {
                Packing::Vectors(_) => tensor.packed.clone(),
                _ => tensor.codes(),
            },
            tensor: tensor.clone(),
            levels: None,
            vectors: None,
            scale: None,
            shift: None,
        }
    }
}

impl Parameters {
    /// Of a quantized network, as `student` computes on the samples.
    pub(super) fn of(student: &Graph, quantized: &QuantizedModel<'_>) -> Result<Self, Error> {
        let network = Network::new(student)
            .map_err(|error| unsupported("cannot analyse the network").with_source(error))?;
        let mut parameters = Self {
            slots: Vec::new(),
            coded: Vec::new(),
            kept: Vec::new(),
        };
        let scaled_later = parameters.add_kept(&network, quantized);
        let mut shared: HashMap<VectorCodes, usize> = HashMap::new();
        for (place, outcome) in quantized.tensors.iter().enumerate() {
            let name = outcome.tensor.name;
            let is_there = student.constants.contains_key(name);
            if let (Some(tensor), true) = (&outcome.quantized, is_there) {
                let is_scaled = !scaled_later.contains(name);
                let on_grid = quantized.target.stores_integers();
                let coded = Coded::new(place, name, tensor);
                parameters.add_coded(coded, &mut shared, [is_scaled, on_grid]);
            }
        }
        Ok(parameters)
    }

    /// Adds scales and biases of normalizations and biases of layers that nothing
    /// else reads; the weights whose scale a normalization's stands for.
    fn add_kept<'g>(
        &mut self,
        network: &Network<'g>,
        quantized: &QuantizedModel<'_>,
    ) -> HashSet<&'g str> {
        let graph = network.graph();
        let uses = uses(graph);
        let places: HashMap<&str, usize> = quantized
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, outcome)| outcome.quantized.is_none())
            .map(|(place, outcome)| (outcome.tensor.name, place))
            .collect();
        let own = |name: &str| {
            let (&name, &place) = places.get_key_value(name)?;
            let (_, values) = network.constant(name)?;
            (uses.get(name) == Some(&1)).then_some(((place, name), values))
        };
        for (node, found) in graph.nodes.iter().enumerate() {
            if !matches!(network.op(node), Op::BatchNormalization(_)) {
                continue;
            }
            let [scale, bias] =
                [1, 2].map(|input| found.inputs.get(input).and_then(|name| own(name)));
            let Some((_, scales)) = scale else { continue };
            // A channel's scale is the deviation of what comes out of it.
            let sizes: Vec<f32> = scales.iter().map(|scale| scale.abs()).collect();
            for (constant, values) in [scale, bias].into_iter().flatten() {
                self.add_slot_of(constant, Slot::of_units(values, sizes.clone()));
            }
        }
        let mut scaled_later = HashSet::new();
        for layer in network.layers() {
            if let Some(node) = network.normalization(&layer)
                && own(&network.node(node).inputs[1]).is_some()
            {
                scaled_later.insert(layer.weights);
            } else if let Some((constant, values)) =
                network.bias(&layer).and_then(|bias| own(bias.name))
            {
                let row = network.constant(layer.weights).map_or(0.0, |(_, weights)| {
                    let energy: f32 = weights.iter().map(|weight| weight * weight).sum();
                    (energy / values.len().max(1) as f32).sqrt()
                });
                let size = mean_magnitude(values) + BIAS_UNIT * row;
                self.add_slot_of(constant, Slot::new(values, |_| size));
            }
        }
        scaled_later
    }

    fn add_slot_of(&mut self, (place, name): (usize, &str), slot: Slot) {
        let slot = self.add(slot);
        let name = name.to_owned();
        self.kept.push(Kept { place, name, slot });
    }

    fn add(&mut self, slot: Slot) -> usize {
        self.slots.push(slot);
        self.slots.len() - 1
    }

    fn add_coded(
        &mut self,
        mut coded: Coded,
        shared: &mut HashMap<VectorCodes, usize>,
        [is_scaled, on_grid]: [bool; 2],
    ) {
        let tensor = coded.tensor.clone();
        let tables = &tensor.tables;
        let size = mean_magnitude(tables.values());
        let largest = tables
            .values()
            .iter()
            .fold(0f32, |max, level| max.max(level.abs()));
        let bounds = match tables.storage() {
            Storage::I8 => [-largest, largest],
            _ => [f32::NEG_INFINITY, f32::INFINITY],
        };
        match &tensor.packing {
            Packing::Vectors(codes) => {
                let known = shared.get(codes).copied();
                coded.vectors = Some(known.unwrap_or_else(|| {
                    let entries = entries(codes, tables);
                    let size = mean_magnitude(&entries);
                    self.add(Slot::new(&entries, |_| size).within(bounds))
                }));
                shared.extend(coded.vectors.map(|slot| (codes.clone(), slot)));
            }
            _ if !on_grid => {
                // Zeros stay: pruned weights are such.
                let unit = |level| if level == 0.0 { 0.0 } else { size };
                let slot = Slot::new(tables.values(), unit).within(bounds);
                coded.levels = Some(self.add(slot));
            }
            _ => {}
        }
        if let Some((scales, storage)) = tensor.scale.as_ref().filter(|_| is_scaled) {
            let most = if *storage == Storage::I8 {
                127.0
            } else {
                f32::INFINITY
            };
            let slot = Slot::new(scales, f32::abs).within([0.0, most]);
            coded.scale = Some(self.add(slot));
        }
        if let Some((shifts, _)) = tensor.shift.as_ref().filter(|_| !on_grid) {
            coded.shift = Some(self.add(Slot::new(shifts, |_| size)));
        }
        self.coded.push(coded);
    }

    /// Number of values that are learned.
    pub(super) fn count(&self) -> usize {
        let units = self.slots.iter().flat_map(|slot| &slot.units);
        units.filter(|unit| **unit > 0.0).count()
    }

    /// Running means for all values.
    pub(super) fn states(&self) -> Vec<Adam> {
        let slots = self.slots.iter();
        slots.map(|slot| Adam::new(slot.values.len())).collect()
    }

    /// The constants that are learned.
    pub(super) fn names(&self) -> Vec<&str> {
        let coded = self.coded.iter().map(|coded| coded.name.as_str());
        coded
            .chain(self.kept.iter().map(|kept| kept.name.as_str()))
            .collect()
    }

    fn stored_of(&self, coded: &Coded) -> QuantizedTensor {
        let mut tensor = coded.tensor.clone();
        let values = |slot: usize| self.slots[slot].values.as_slice();
        let tables = &coded.tensor.tables;
        if let Some(slot) = coded.levels {
            tensor.tables =
                LevelTables::new(values(slot).to_vec(), tables.levels(), tables.storage());
        }
        if let (Some(slot), Packing::Vectors(codes)) = (coded.vectors, &coded.tensor.packing) {
            let nearest = values(slot)
                .iter()
                .map(|&value| nearest(tables.table(0), value));
            if let Some(codes) = VectorCodes::new(nearest.collect(), codes.dimension()) {
                tensor.packing = Packing::Vectors(codes);
            }
        }
        for (own, slot) in [
            (&mut tensor.scale, coded.scale),
            (&mut tensor.shift, coded.shift),
        ] {
            if let (Some((stored, storage)), Some(slot)) = (own, slot) {
                *stored = values(slot)
                    .iter()
                    .map(|&value| storage.round(value))
                    .collect();
            }
        }
        tensor
    }

    /// Puts all values, as they will be stored, into the network.
    pub(super) fn put_into_graph(&mut self, graph: &mut Graph) -> Result<(), Error> {
        let stored: Vec<QuantizedTensor> = self
            .coded
            .par_iter()
            .map(|coded| self.stored_of(coded))
            .collect();
        let decoded: Vec<Vec<f32>> = stored.par_iter().map(QuantizedTensor::dequantize).collect();
        for (coded, tensor) in self.coded.iter_mut().zip(stored) {
            coded.tensor = tensor;
        }
        for (coded, weights) in self.coded.iter().zip(decoded) {
            replace(graph, &coded.name, weights)?;
        }
        for kept in &self.kept {
            let values = self.slots[kept.slot].values.clone();
            replace(graph, &kept.name, values)?;
        }
        Ok(())
    }

    /// Puts all values into the model, as they will be stored.
    pub(super) fn put_into_model(
        self,
        float: &Graph,
        quantized: &mut QuantizedModel<'_>,
    ) -> Result<(), Error> {
        for coded in self.coded {
            let tensor = coded.tensor;
            let outcome = &mut quantized.tensors[coded.place];
            let Some(TensorData::F32(weights)) = float
                .constants
                .get(outcome.tensor.name)
                .map(campana_tensor::Tensor::data)
            else {
                continue;
            };
            let decoded = tensor.dequantize();
            let errors = weights.iter().zip(&decoded);
            let squared_error: f64 = errors
                .map(|(weight, decoded)| (f64::from(*decoded) - f64::from(*weight)).powi(2))
                .sum();
            outcome.report.mse = Some(squared_error / decoded.len().max(1) as f64);
            outcome.report.sqnr_db = Some(sqnr_db(outcome.energy, squared_error));
            outcome.report.clip = Some(clip(&tensor));
            outcome.squared_error = squared_error;
            outcome.quantized = Some(tensor);
        }
        for kept in self.kept {
            let values = self.slots[kept.slot].values.clone();
            quantized.tensors[kept.place].corrected = Some(values);
        }
        Ok(())
    }

    /// A step against the gradients of constants, by name.
    pub(super) fn step(
        &mut self,
        gradients: &BTreeMap<String, Vec<f32>>,
        states: &mut [Adam],
        rate: f32,
        step: u32,
    ) {
        let mut sums: Vec<Vec<f32>> = self
            .slots
            .iter()
            .map(|slot| vec![0.0; slot.values.len()])
            .collect();
        for coded in &self.coded {
            if let Some(gradient) = gradients.get(&coded.name) {
                self.add_gradients(coded, gradient, &mut sums);
            }
        }
        for kept in &self.kept {
            if let Some(gradient) = gradients.get(&kept.name) {
                add(&mut sums[kept.slot], gradient);
            }
        }
        for ((slot, gradient), state) in self.slots.iter_mut().zip(&sums).zip(states) {
            state.step(&mut slot.values, gradient, &slot.units, rate, step);
            let [least, most] = slot.bounds;
            for value in &mut slot.values {
                *value = value.clamp(least, most);
            }
        }
    }

    /// Adds what the gradient of a tensor's weights is for its levels, vectors,
    /// scales and shifts: a weight is `(level + shift) * scale`.
    fn add_gradients(&self, coded: &Coded, gradient: &[f32], sums: &mut [Vec<f32>]) {
        let stored = &coded.tensor;
        let dimension = match &coded.tensor.packing {
            Packing::Vectors(codes) => codes.dimension(),
            _ => 1,
        };
        let level_count = stored.tables.levels();
        for group in 0..stored.partition.group_count() {
            let table = stored.group_table(group);
            let (levels, shift) = (stored.tables.table(table), stored.group_shift(group));
            let scale = stored.group_scale(group).unwrap_or(1.0);
            let (mut of_scale, mut of_shift) = (0f64, 0f64);
            for at in stored.partition.runs(group).flatten() {
                let gradient = gradient[at];
                let level = match &stored.packing {
                    Packing::Vectors(vectors) => {
                        let number = coded.codes[at / dimension];
                        if let Some(slot) = coded.vectors {
                            let entry = usize::from(number) * dimension + at % dimension;
                            sums[slot][entry] += gradient * scale;
                        }
                        levels[usize::from(vectors.vector(number)[at % dimension])]
                    }
                    _ => {
                        let code = usize::from(coded.codes[at]);
                        if let Some(slot) = coded.levels {
                            sums[slot][table * level_count + code] += gradient * scale;
                        }
                        levels[code]
                    }
                };
                of_scale += f64::from(gradient * (level + shift));
                of_shift += f64::from(gradient * scale);
            }
            if let Some(slot) = coded.scale {
                sums[slot][group] += of_scale as f32 * stored.scale_unit.unwrap_or(1.0);
            }
            if let Some(slot) = coded.shift {
                sums[slot][group] += of_shift as f32;
            }
        }
    }
}

/// The entries of vectors as values of their table.
fn entries(codes: &VectorCodes, tables: &LevelTables) -> Vec<f32> {
    let levels = tables.table(0);
    let level = |&code: &u8| levels.get(usize::from(code)).copied().unwrap_or(0.0);
    codes.table().iter().map(level).collect()
}

/// The code of the level nearest to a value.
fn nearest(levels: &[f32], value: f32) -> u8 {
    let distances = levels.iter().map(|level| (level - value).abs());
    let least = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    least.map_or(0, |(code, _)| code as u8)
}

fn mean_magnitude(values: &[f32]) -> f32 {
    values.iter().map(|value| value.abs()).sum::<f32>() / values.len().max(1) as f32
}

/// Adds values one by one.
pub(super) fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::{Granularity, Partition};

    /// Of a difference in float32, relative.
    const TOLERANCE: f32 = 1e-3;

    fn parameters_of(tensor: &QuantizedTensor) -> Parameters {
        let mut parameters = Parameters {
            slots: Vec::new(),
            coded: Vec::new(),
            kept: Vec::new(),
        };
        let coded = Coded::new(0, "w", tensor);
        parameters.add_coded(coded, &mut HashMap::new(), [true, false]);
        parameters
    }

    /// Gradients against differences of a weighted sum of the decoded weights, for
    /// steps of this size.
    fn check(tensor: &QuantizedTensor, step: f32) {
        let parameters = parameters_of(tensor);
        let count = tensor.partition.len();
        let weights: Vec<f32> = (0..count).map(|i| ((i * 5) % 7) as f32 - 2.5).collect();
        let loss = |parameters: &Parameters| -> f32 {
            let decoded = parameters.stored_of(&parameters.coded[0]).dequantize();
            decoded.iter().zip(&weights).map(|(w, g)| w * g).sum()
        };
        let slots = parameters.slots.iter();
        let mut sums: Vec<Vec<f32>> = slots.map(|slot| vec![0.0; slot.values.len()]).collect();
        parameters.add_gradients(&parameters.coded[0], &weights, &mut sums);
        for (slot, gradient) in sums.iter().enumerate() {
            for (at, gradient) in gradient.iter().enumerate() {
                let moved = |step: f32| {
                    let mut moved = parameters.clone();
                    moved.slots[slot].values[at] += step;
                    loss(&moved)
                };
                let difference = (moved(step) - moved(-step)) / (2.0 * step);
                let error = (difference - gradient).abs();
                assert!(
                    error <= TOLERANCE * gradient.abs().max(1.0),
                    "slot {slot}, {at}: {gradient}, not {difference}"
                );
            }
        }
    }

    #[test]
    fn gradients_of_levels_scales_and_shifts_are_those_of_the_weights() {
        let codes = [0u8, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2];
        let packing = Packing::densest(3);
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(&codes, &mut packed);
        let tables = vec![-1.5, 0.25, 2.0, -1.0, 0.5, 1.25];
        let tensor = QuantizedTensor {
            shape: vec![3, 4],
            partition: Partition::new(&[3, 4], Some(0), Granularity::PerChannel),
            packing,
            packed,
            tables: LevelTables::new(tables, 3, Storage::F32),
            table_of_group: Some(vec![0, 1, 0]),
            scale: Some((vec![2.0, 0.5, 1.0], Storage::F32)),
            scale_unit: Some(0.5),
            shift: Some((vec![0.125, 0.0, -0.25], Storage::F32)),
        };
        tensor.check().unwrap();
        check(&tensor, 0.0625);
    }

    #[test]
    fn gradients_of_vectors_are_those_of_the_weights() {
        let vectors: Vec<u8> = (0..512).map(|i| 20 + (i * 7 % 31) as u8).collect();
        let tensor = QuantizedTensor {
            shape: vec![2, 4],
            partition: Partition::new(&[2, 4], Some(0), Granularity::PerChannel),
            packing: Packing::Vectors(VectorCodes::new(vectors, 2).unwrap()),
            packed: vec![3, 200, 3, 17],
            tables: LevelTables::new((-40..40).map(|v| v as f32).collect(), 80, Storage::I8),
            table_of_group: None,
            scale: Some((vec![2.0, 0.5], Storage::F32)),
            scale_unit: None,
            shift: None,
        };
        tensor.check().unwrap();
        // Whole levels, as entries are rounded to these.
        check(&tensor, 1.0);
    }

    #[test]
    fn zeros_stay_and_levels_keep_their_range() {
        let tensor = QuantizedTensor {
            shape: vec![1, 4],
            partition: Partition::new(&[1, 4], Some(0), Granularity::PerChannel),
            packing: Packing::densest(3),
            packed: {
                let packing = Packing::densest(3);
                let mut packed = vec![0; packing.len_bytes(4)];
                packing.pack(&[0, 1, 2, 1], &mut packed);
                packed
            },
            tables: LevelTables::new(vec![-64.0, 0.0, 50.0], 3, Storage::I8),
            table_of_group: None,
            scale: Some((vec![0.01], Storage::F32)),
            scale_unit: None,
            shift: None,
        };
        let mut parameters = parameters_of(&tensor);
        let mut states = parameters.states();
        let gradients = BTreeMap::from([("w".to_owned(), vec![1.0, -1.0, 1.0, -1.0])]);
        for step in 0..50 {
            parameters.step(&gradients, &mut states, 0.5, step);
        }
        let stored = parameters.stored_of(&parameters.coded[0]);
        let levels = stored.tables.table(0);
        assert_eq!([levels[0], levels[1]], [-64.0, 0.0]);
        assert!(levels[2] < 0.0, "{levels:?}");
        assert_eq!(stored.tables.storage(), Storage::I8);
    }
}
