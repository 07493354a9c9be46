//! Layers that an interrupted correction finished.
//!
//! What becomes of a layer follows from the network, the codes before the
//! correction, the images and the layer: a key is made of all of these, and a
//! layer that was kept under the same key need not be solved again.

use std::hash::{DefaultHasher, Hash, Hasher};

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};
use campana_ir::graph::Graph;
use campana_quantize::{Error, QuantizedModel};
use campana_tensor::TensorData;
use serde::{Deserialize, Serialize};

use crate::correct::rounding::Rounding;
use crate::samples::{InputScale, Samples};

/// Keeps the layers of corrections that are finished, for later ones.
pub trait FinishedLayers {
    /// The layer of this key, if it was kept.
    fn find(&self, key: u64) -> Option<FinishedLayer>;

    /// Keeps a layer.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    fn keep(&mut self, layer: FinishedLayer) -> Result<(), Error>;
}

/// Codes and levels of a layer after the correction. Floats are kept as their
/// bits: the same to the last one after a trip through any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedLayer {
    /// What it follows from.
    pub key: u64,
    packed: Vec<u8>,
    /// Values in each table.
    levels: usize,
    tables: Values,
    table_of_group: Option<Vec<u16>>,
    scale: Option<Values>,
    scale_unit: Option<u32>,
    shift: Option<Values>,
    /// Share of the covariances that was believed.
    believed: u64,
}

/// Floats, and the bytes that each is stored in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Values {
    bits: Vec<u32>,
    len_bytes: usize,
}

impl Values {
    fn new(values: &[f32], storage: Storage) -> Self {
        Self {
            bits: values.iter().map(|value| value.to_bits()).collect(),
            len_bytes: storage.len_bytes(),
        }
    }

    fn restore(&self) -> Option<(Vec<f32>, Storage)> {
        let storage = [Storage::F32, Storage::F16, Storage::I8]
            .into_iter()
            .find(|storage| storage.len_bytes() == self.len_bytes)?;
        let values = self.bits.iter().map(|&bits| f32::from_bits(bits));
        Some((values.collect(), storage))
    }
}

impl FinishedLayer {
    /// What became of a tensor: its groups are those from before, and codes are
    /// packed as densely as its levels allow.
    pub(super) fn new(key: u64, tensor: &QuantizedTensor, believed: f64) -> Self {
        let of_groups = |values: &Option<(Vec<f32>, Storage)>| {
            let (values, storage) = values.as_ref()?;
            Some(Values::new(values, *storage))
        };
        Self {
            key,
            packed: tensor.packed.clone(),
            levels: tensor.tables.levels(),
            tables: Values::new(tensor.tables.values(), tensor.tables.storage()),
            table_of_group: tensor.table_of_group.clone(),
            scale: of_groups(&tensor.scale),
            scale_unit: tensor.scale_unit.map(f32::to_bits),
            shift: of_groups(&tensor.shift),
            believed: believed.to_bits(),
        }
    }

    /// The corrected tensor, and the share that was believed; `None` where this
    /// does not fit the tensor before.
    pub(super) fn restore(&self, before: &QuantizedTensor) -> Option<(QuantizedTensor, f64)> {
        let of_groups = |values: &Option<Values>| match values {
            Some(values) => values.restore().map(Some),
            None => Some(None),
        };
        let (tables, storage) = self.tables.restore()?;
        if !(1..=256).contains(&self.levels) || !tables.len().is_multiple_of(self.levels) {
            return None;
        }
        let tensor = QuantizedTensor {
            shape: before.shape.clone(),
            partition: before.partition.clone(),
            packing: Packing::densest(self.levels),
            packed: self.packed.clone(),
            tables: LevelTables::new(tables, self.levels, storage),
            table_of_group: self.table_of_group.clone(),
            scale: of_groups(&self.scale)?,
            scale_unit: self.scale_unit.map(f32::from_bits),
            shift: of_groups(&self.shift)?,
        };
        tensor.check().ok()?;
        Some((tensor, f64::from_bits(self.believed)))
    }
}

/// What all layers of a correction follow from.
pub(super) fn key_of_correction(
    graph: &Graph,
    quantized: &QuantizedModel<'_>,
    samples: &Samples,
    rounding: Rounding,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{rounding:?} {:?} {:?}", quantized.target, graph.nodes).hash(&mut hasher);
    let mut constants: Vec<_> = graph.constants.iter().collect();
    constants.sort_by_key(|(name, _)| *name);
    for (name, tensor) in constants {
        name.hash(&mut hasher);
        if let TensorData::F32(values) = tensor.data() {
            hash_floats(values, &mut hasher);
        }
    }
    for outcome in &quantized.tensors {
        outcome.tensor.name.hash(&mut hasher);
        if let Some(tensor) = &outcome.quantized {
            tensor.packed.hash(&mut hasher);
            hash_floats(tensor.tables.values(), &mut hasher);
            for (values, _) in [&tensor.scale, &tensor.shift].into_iter().flatten() {
                hash_floats(values, &mut hasher);
            }
        }
    }
    match samples {
        Samples::Synthetic { size, scale } => {
            size.hash(&mut hasher);
            match scale {
                InputScale::Unknown => {}
                InputScale::Normalized { mean, std } => {
                    hash_floats(mean, &mut hasher);
                    hash_floats(std, &mut hasher);
                }
                InputScale::Range(range) => hash_floats(range, &mut hasher),
            }
        }
        Samples::Arrays(arrays) => {
            for (name, array) in arrays {
                (name, array.shape(), format!("{:?}", array.data())).hash(&mut hasher);
            }
        }
        Samples::Images { shape, data } => {
            shape.hash(&mut hasher);
            hash_floats(data, &mut hasher);
        }
    }
    hasher.finish()
}

/// What a layer follows from.
pub(super) fn key_of_layer(correction: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (correction, name).hash(&mut hasher);
    hasher.finish()
}

fn hash_floats(values: &[f32], hasher: &mut DefaultHasher) {
    for value in values {
        hasher.write_u32(value.to_bits());
    }
}
