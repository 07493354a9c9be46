//! Layers that an interrupted correction finished.
//!
//! What becomes of a layer follows from the network, the codes before the
//! correction, the images and the layer: a key is made of all of these, and a
//! layer that was kept under the same key need not be solved again.

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage, VectorCodes};
use campana_ir::graph::Graph;
use campana_quantize::{Error, QuantizedModel};
use campana_tensor::Fingerprint;
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
    /// Codes of a vector and of all vectors, where each packed byte is one.
    vectors: Option<(usize, Vec<u8>)>,
    /// Values in each table.
    levels: usize,
    tables: Values,
    table_of_group: Option<Vec<u16>>,
    scale: Option<Values>,
    scale_unit: Option<u32>,
    shift: Option<Values>,
    /// share of the covariances that counts.
    covariance_share: u64,
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
    pub(super) fn new(key: u64, tensor: &QuantizedTensor, covariance_share: f64) -> Self {
        let of_groups = |values: &Option<(Vec<f32>, Storage)>| {
            let (values, storage) = values.as_ref()?;
            Some(Values::new(values, *storage))
        };
        Self {
            key,
            packed: tensor.packed.clone(),
            vectors: match &tensor.packing {
                Packing::Vectors(vectors) => Some((vectors.dimension(), vectors.table().to_vec())),
                _ => None,
            },
            levels: tensor.tables.levels(),
            tables: Values::new(tensor.tables.values(), tensor.tables.storage()),
            table_of_group: tensor.table_of_group.clone(),
            scale: of_groups(&tensor.scale),
            scale_unit: tensor.scale_unit.map(f32::to_bits),
            shift: of_groups(&tensor.shift),
            covariance_share: covariance_share.to_bits(),
        }
    }

    /// The corrected tensor, and the share of the covariances; `None` where this
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
            packing: match &self.vectors {
                Some((len, table)) => Packing::Vectors(VectorCodes::new(table.clone(), *len)?),
                None => Packing::densest(self.levels),
            },
            packed: self.packed.clone(),
            tables: LevelTables::new(tables, self.levels, storage),
            table_of_group: self.table_of_group.clone(),
            scale: of_groups(&self.scale)?,
            scale_unit: self.scale_unit.map(f32::from_bits),
            shift: of_groups(&self.shift)?,
        };
        tensor.check().ok()?;
        Some((tensor, f64::from_bits(self.covariance_share)))
    }
}

/// What all layers of a correction follow from. Stable, as journals outlive
/// the program: one of another version has other keys because the version
/// counts, never because the standard library hashes otherwise.
/// `images` is the number of samples that it sees of those given.
pub(super) fn key_of_correction(
    graph: &Graph,
    quantized: &QuantizedModel<'_>,
    samples: &Samples,
    images: usize,
    rounding: Rounding,
) -> u64 {
    let mut key = Fingerprint::default();
    key.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    let what = format!("{rounding:?} {:?} {:?}", quantized.target, graph.nodes);
    key.word(images as u64);
    key.bytes(what.as_bytes());
    let mut constants: Vec<_> = graph.constants.iter().collect();
    constants.sort_by_key(|(name, _)| *name);
    for (name, tensor) in constants {
        key.bytes(name.as_bytes());
        key.tensor(tensor.data());
    }
    for outcome in &quantized.tensors {
        key.bytes(outcome.tensor.name.as_bytes());
        if let Some(tensor) = &outcome.quantized {
            key.bytes(&tensor.packed);
            if let Packing::Vectors(vectors) = &tensor.packing {
                key.bytes(vectors.table());
            }
            key.floats(tensor.tables.values());
            for (values, _) in [&tensor.scale, &tensor.shift].into_iter().flatten() {
                key.floats(values);
            }
        }
    }
    match samples {
        Samples::Synthetic { size, scale } => {
            key.bytes(format!("{size:?}").as_bytes());
            match scale {
                InputScale::Unknown => {}
                InputScale::Normalized { mean, std } => {
                    key.floats(mean);
                    key.floats(std);
                }
                InputScale::Range(range) => key.floats(range),
            }
        }
        Samples::Arrays(arrays) => {
            for (name, array) in arrays {
                key.bytes(name.as_bytes());
                key.bytes(format!("{:?} {:?}", array.shape(), array.data()).as_bytes());
            }
        }
        Samples::Images { shape, data } => {
            key.bytes(format!("{shape:?}").as_bytes());
            key.floats(data);
        }
    }
    key.value()
}

/// What a layer follows from.
pub(super) fn key_of_layer(correction: u64, name: &str) -> u64 {
    let mut key = Fingerprint::from_value(correction);
    key.bytes(name.as_bytes());
    key.value()
}
