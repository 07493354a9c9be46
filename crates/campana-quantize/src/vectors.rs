//! Vector quantization: a byte a vector of 2, 4 or 8 neighbouring weights of a
//! channel, 256 vectors a table, and a scale a channel.
//!
//! Two bits a weight need not mean four levels: the 256 vectors of four weights
//! that fit a distribution best have 0.7 dB (Gaussian) to 2.3 dB (Laplace) less
//! error than four levels a weight have at the same number of bytes. Components
//! are integers from -127 to 127 times the channel's scale, so that the codes of
//! a vector are those of one scalar table, and engines that multiply integers
//! take them as they are.
//!
//! `auto` takes vectors wherever it may. To compare their error with that of
//! scalar codes would mislead: a codebook for each channel may be nearer to the
//! weights at 1 bit, but the correction, which decides on all weights of a vector
//! together, gains more on vectors.

use std::collections::{BTreeMap, BTreeSet};

use campana_codebook::{
    LevelTables, Packing, QuantizedTensor, Storage, VectorCodebook, VectorCodes,
};
use campana_design::{Moments, vector_kmeans};
use campana_ir::weights::{ModelTensor, Role};
use campana_onnx::Model;
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::choice::{MethodChoice, TensorChoice};
use crate::error::Error;
use crate::shared::{gather, spread};
use crate::store::{Precision, Stored, store_scales};
use crate::weights::{read_weights, shape};

/// Largest integer of a component.
const LARGEST: f32 = 127.0;

/// A table is learnt from about this many vectors, of one tensor or of several
/// together, but from no fewer of each than `MIN_SAMPLE`.
const SAMPLE: usize = 1 << 16;
const MIN_SAMPLE: usize = 256;

/// A table that tensors share takes at most one of so many bytes of their codes:
/// more than one of a tensor's own, as the gain is that over scalar codes.
const CODES_FOR_A_SHARED_TABLE: usize = 4;

/// Up to this width `auto` looks at vectors: at 4 bits pairs gain too little for
/// kernels that look up scalar codes in registers to be given up.
const MAX_AUTO_BITS: u8 = 2;

/// Alternations between the entries of vectors and the scales of channels.
const ALTERNATIONS: usize = 3;

/// What decides the precision of scales: vectors are as coarse as scalar codes
/// of at most 16 levels.
const LIKE_LEVELS: usize = 16;

/// Weights in a vector where a weight takes this many bits; `None` where no
/// byte holds a whole number of them.
pub fn dimension(bits: u8) -> Option<usize> {
    match bits {
        1 | 2 | 4 => Some(usize::from(8 / bits)),
        _ => None,
    }
}

/// Tables of normalized vectors that small tensors of a network share, by
/// their dimension. Without one (the default) they are stored in scalar codes.
#[derive(Clone, Debug, Default)]
pub struct SharedVectors(BTreeMap<usize, VectorCodebook>);

impl SharedVectors {
    /// The tables of a model's tensors for these widths, where the tensors that
    /// may share one are worth it together. What is learnt does not depend on the
    /// width that each of them was chosen to have: a plan gives the model again
    /// that it was made from.
    ///
    /// # Errors
    ///
    /// Where weights cannot be read.
    pub fn learn(
        model: &Model,
        tensors: &[(&ModelTensor<'_>, TensorChoice)],
        widths: &BTreeSet<u8>,
    ) -> Result<Self, Error> {
        let mut tables = BTreeMap::new();
        for &bits in widths {
            let sharing: Vec<(&ModelTensor<'_>, Vectors)> = tensors
                .iter()
                .filter_map(|(tensor, choice)| {
                    Some((*tensor, small_vectors(tensor, choice, bits)?))
                })
                .collect();
            let Some((_, first)) = sharing.first() else {
                continue;
            };
            let dimension = first.dimension;
            let count: usize = sharing.iter().map(|(_, vectors)| vectors.count()).sum();
            if count < CODES_FOR_A_SHARED_TABLE * VectorCodebook::LEN * dimension {
                continue;
            }
            let mut sample = Vec::new();
            for (tensor, vectors) in &sharing {
                let weights = read_weights(model, tensor)?;
                sample.extend(vectors.sample(&weights, SAMPLE / sharing.len()));
            }
            if let Some(table) = vector_kmeans(&sample, dimension) {
                tables.insert(dimension, table);
            }
        }
        Ok(Self(tables))
    }
}

/// The vectors of a tensor that would be stored so at this width, where it is
/// too small for a table of its own.
fn small_vectors(tensor: &ModelTensor<'_>, choice: &TensorChoice, bits: u8) -> Option<Vectors> {
    let Role::Weight { channel_axis, .. } = tensor.role else {
        return None;
    };
    let choice = TensorChoice {
        bits: Some(bits),
        ..*choice
    };
    Vectors::chosen(&shape(tensor), channel_axis, &choice).filter(Vectors::share_a_table)
}

/// A tensor cut into vectors.
pub(crate) struct Vectors {
    partition: Partition,
    dimension: usize,
}

impl Vectors {
    /// Of this many weights in channels; `None` where vectors would reach from
    /// one channel into the next.
    pub(crate) fn new(shape: &[usize], channel_axis: Option<usize>, bits: u8) -> Option<Self> {
        let partition = Partition::new(shape, channel_axis, Granularity::PerChannel);
        let dimension = dimension(bits)?;
        let run_len = partition.extents()[4];
        let fits = run_len > 0 && run_len.is_multiple_of(dimension);
        fits.then_some(Self {
            partition,
            dimension,
        })
    }

    /// As [`new`](Self::new), for a tensor as it was chosen to be stored; `None`
    /// also where the choice leaves no vectors.
    pub(crate) fn chosen(
        shape: &[usize],
        channel_axis: Option<usize>,
        choice: &TensorChoice,
    ) -> Option<Self> {
        let bits = choice.bits?;
        let may_be = match choice.method {
            MethodChoice::Vectors => true,
            // At batch 1 a dense layer's time is that of reading its weights,
            // which integer kernels read as scalar codes, and vectors as bytes.
            MethodChoice::Auto => {
                bits <= MAX_AUTO_BITS
                    && !choice.scalar_codes
                    && choice.granularity == Granularity::PerChannel
                    && !(choice.on_integers && shape.len() == 2)
            }
            MethodChoice::Fixed(_) => false,
        };
        may_be.then(|| Self::new(shape, channel_axis, bits))?
    }

    /// Vectors of the tensor.
    fn count(&self) -> usize {
        self.partition.len() / self.dimension
    }

    /// Whether the tensor has few codes for a table of its own.
    fn share_a_table(&self) -> bool {
        !VectorCodes::have_own_table(self.count(), self.dimension)
    }

    /// The root mean square of each channel.
    fn scales(&self, weights: &[f32]) -> Vec<f64> {
        let groups = 0..self.partition.group_count();
        let scale = |group| Moments::of(&gather(weights, &self.partition, group)).mean_square;
        groups
            .into_par_iter()
            .map(|group| scale(group).sqrt())
            .collect()
    }

    /// About so many vectors in units of their channel's scale, from all over
    /// the tensor.
    fn sample(&self, weights: &[f32], count: usize) -> Vec<f32> {
        let scales = self.scales(weights);
        let taken = spread(weights.len() / self.dimension, count.max(MIN_SAMPLE));
        let vectors = taken.into_iter().flat_map(|vector| {
            let start = vector * self.dimension;
            let scale = scales[self.partition.group_of(start)];
            let weights = &weights[start..start + self.dimension];
            weights
                .iter()
                .map(move |&weight| (f64::from(weight) / scale) as f32)
        });
        let vectors: Vec<f32> = vectors.collect();
        let whole = vectors.chunks_exact(self.dimension);
        // Channels of zeros have none.
        let finite = whole.filter(|vector| vector.iter().all(|value| value.is_finite()));
        finite.flatten().copied().collect()
    }

    /// Stores a tensor in vectors: of a shared table where the tensor is small,
    /// else of its own; `None` where there is none.
    pub(crate) fn store(
        &self,
        weights: &[f32],
        shape: &[usize],
        shared: &SharedVectors,
    ) -> Option<Stored> {
        let mut scales = self.scales(weights);
        let own;
        let table = if self.share_a_table() {
            shared.0.get(&self.dimension)?
        } else {
            own = vector_kmeans(&self.sample(weights, SAMPLE), self.dimension)?;
            &own
        };
        for _ in 0..ALTERNATIONS {
            let levels = VectorLevels::new(table, &scales, Precision::Fine)?;
            let numbers = levels.nearest(weights, &self.partition);
            levels.fit_scales(weights, &self.partition, &numbers, &mut scales);
        }
        let levels = VectorLevels::new(table, &scales, Precision::Fine)?;
        let numbers = levels.nearest(weights, &self.partition);
        let tensor = levels.with_numbers(shape, &self.partition, numbers);
        let decoded = tensor.dequantize();
        let errors = decoded.iter().zip(weights);
        Some(Stored {
            squared_error: errors.map(|(q, w)| f64::from(q - w).powi(2)).sum(),
            tensor,
        })
    }
}

/// What the vectors of a tensor decode with: all but their numbers.
#[derive(Clone, Debug)]
pub struct VectorLevels {
    codes: VectorCodes,
    tables: LevelTables,
    scale: Vec<f32>,
    storage: Storage,
    scale_unit: Option<f32>,
    /// The entries before they are scaled.
    codebook: VectorCodebook,
}

impl VectorLevels {
    /// A table of float vectors, its components rounded to integers, under
    /// scales of the groups that are for the floats; `None` where all is zero or
    /// too small.
    pub fn new(table: &VectorCodebook, scales: &[f64], precision: Precision) -> Option<Self> {
        let values = table.vectors();
        let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
        let unit = largest / LARGEST;
        if !unit.is_normal() {
            return None;
        }
        let code = |value: &f32| ((value / unit).round_ties_even() + LARGEST) as u8;
        let codes = values.iter().map(code).collect();
        let scales: Vec<f32> = scales
            .iter()
            .map(|scale| (scale * f64::from(unit)) as f32)
            .collect();
        let levels: Vec<f32> = (0..=2 * LARGEST as u8)
            .map(|code| f32::from(code) - LARGEST)
            .collect();
        let count = levels.len();
        let codes = VectorCodes::new(codes, table.dimension())?;
        let tables = LevelTables::new(levels, count, Storage::I8);
        let (scale, storage, scale_unit) = store_scales(&scales, LIKE_LEVELS, precision);
        Some(Self {
            codebook: codebook(&codes, &tables),
            codes,
            tables,
            scale,
            storage,
            scale_unit,
        })
    }

    /// What the vectors of a tensor decode with; `None` where it is not stored
    /// in vectors of one table with a scale a group.
    pub fn of(tensor: &QuantizedTensor) -> Option<Self> {
        let Packing::Vectors(codes) = &tensor.packing else {
            return None;
        };
        let (scale, storage) = tensor.scale.clone()?;
        if tensor.tables.count() != 1 || tensor.shift.is_some() {
            return None;
        }
        Some(Self {
            codebook: codebook(codes, &tensor.tables),
            codes: codes.clone(),
            tables: tensor.tables.clone(),
            scale,
            storage,
            scale_unit: tensor.scale_unit,
        })
    }

    /// The same entries with other scales.
    #[must_use]
    pub fn with_scales(&self, scales: &[f64], precision: Precision) -> Self {
        let scales: Vec<f32> = scales.iter().map(|&scale| scale as f32).collect();
        let (scale, storage, scale_unit) = store_scales(&scales, LIKE_LEVELS, precision);
        Self {
            scale,
            storage,
            scale_unit,
            ..self.clone()
        }
    }

    /// The entries, which a group's scale is the factor on.
    pub fn codebook(&self) -> &VectorCodebook {
        &self.codebook
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.scale.len()
    }

    /// The factor of a group.
    pub fn scale(&self, group: usize) -> f32 {
        self.scale_unit
            .map_or(self.scale[group], |unit| self.scale[group] * unit)
    }

    /// The tensor of these vectors.
    pub fn with_numbers(
        self,
        shape: &[usize],
        partition: &Partition,
        numbers: Vec<u8>,
    ) -> QuantizedTensor {
        QuantizedTensor {
            shape: shape.to_vec(),
            partition: partition.clone(),
            packing: Packing::Vectors(self.codes),
            packed: numbers,
            tables: self.tables,
            table_of_group: None,
            scale: Some((self.scale, self.storage)),
            scale_unit: self.scale_unit,
            shift: None,
        }
    }

    /// The entry nearest to each vector of the weights.
    fn nearest(&self, weights: &[f32], partition: &Partition) -> Vec<u8> {
        let dimension = self.codebook.dimension();
        let squares = self.codebook.squares();
        let vectors = weights.par_chunks_exact(dimension).enumerate();
        let nearest = vectors.map(|(at, vector)| {
            let scale = self.scale(partition.group_of(at * dimension));
            if scale == 0.0 {
                return 0;
            }
            let linear: Vec<f32> = vector.iter().map(|weight| -2.0 * weight / scale).collect();
            self.codebook.least(&squares, &linear).0
        });
        nearest.collect()
    }

    /// The scales of least squared error for these entries, of float vectors as
    /// the table was made of.
    fn fit_scales(
        &self,
        weights: &[f32],
        partition: &Partition,
        numbers: &[u8],
        scales: &mut [f64],
    ) {
        let dimension = self.codebook.dimension();
        let mut sums = vec![[0f64; 2]; scales.len()];
        for (at, (vector, &number)) in weights.chunks_exact(dimension).zip(numbers).enumerate() {
            let group = partition.group_of(at * dimension);
            for (i, &weight) in vector.iter().enumerate() {
                let value =
                    f64::from(self.codebook.value(number, i)) * f64::from(self.scale(group));
                sums[group][0] += f64::from(weight) * value;
                sums[group][1] += value * value;
            }
        }
        for (scale, [product, energy]) in scales.iter_mut().zip(sums) {
            let factor = product / energy;
            if factor > 0.0 && factor.is_finite() {
                *scale *= factor;
            }
        }
    }
}

/// The entries of a table as floats.
fn codebook(codes: &VectorCodes, tables: &LevelTables) -> VectorCodebook {
    let levels = tables.table(0);
    let values = codes.table().iter().map(|&code| {
        // Vectors that no number means may have codes without levels.
        levels.get(usize::from(code)).copied().unwrap_or(0.0)
    });
    VectorCodebook::new(&values.collect::<Vec<f32>>(), codes.dimension())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of a few channels of very different sizes.
    fn weights(channels: usize, len: usize) -> Vec<f32> {
        let weight = |at: usize| {
            let noise: f32 = (0..6)
                .map(|k| ((at * 7919 + k * 104_729) % 1009) as f32 / 1009.0 - 0.5)
                .sum();
            noise * 10f32.powi((at / len) as i32 * 2 - 6)
        };
        (0..channels * len).map(weight).collect()
    }

    #[test]
    fn channels_of_every_size_are_stored_alike() {
        let (shape, weights) = ([8, 16_384], weights(8, 16_384));
        for (bits, least) in [(2, 9.0), (4, 18.0)] {
            let vectors = Vectors::new(&shape, Some(0), bits).unwrap();
            let stored = vectors
                .store(&weights, &shape, &SharedVectors::default())
                .unwrap();
            stored.tensor.check().unwrap();
            assert_eq!(
                stored.tensor.packed.len(),
                weights.len() * usize::from(bits) / 8
            );
            let decoded = stored.tensor.dequantize();
            for (w, q) in weights.chunks(16_384).zip(decoded.chunks(16_384)) {
                let energy = |values: &mut dyn Iterator<Item = f32>| -> f64 {
                    values.map(|value| f64::from(value).powi(2)).sum()
                };
                let error = energy(&mut w.iter().zip(q).map(|(w, q)| w - q));
                let sqnr = 10.0 * (energy(&mut w.iter().copied()) / error).log10();
                assert!(sqnr > least, "{bits} bits: {sqnr} dB");
            }
        }
    }

    #[test]
    fn vectors_do_not_reach_from_one_channel_into_the_next() {
        assert!(Vectors::new(&[8, 1, 3, 3], Some(0), 2).is_none());
        assert!(Vectors::new(&[8, 4, 3, 3], Some(0), 2).is_some());
        assert!(
            Vectors::new(&[16, 10], Some(1), 4).is_none(),
            "channels last"
        );
        assert!(
            Vectors::new(&[8, 4, 3, 3], Some(0), 3).is_none(),
            "no byte holds them"
        );
    }

    #[test]
    fn channels_of_zeros_stay_so() {
        let mut weights = weights(4, 16_384);
        weights[16_384..32_768].fill(0.0);
        let shape = [4, 16_384];
        let vectors = Vectors::new(&shape, Some(0), 2).unwrap();
        let stored = vectors
            .store(&weights, &shape, &SharedVectors::default())
            .unwrap();
        assert!(
            stored.tensor.dequantize()[16_384..32_768]
                .iter()
                .all(|&value| value == 0.0)
        );
    }

    #[test]
    fn stored_vectors_are_read_back() {
        let (shape, weights) = ([4, 16_384], weights(4, 16_384));
        let vectors = Vectors::new(&shape, Some(0), 2).unwrap();
        let stored = vectors
            .store(&weights, &shape, &SharedVectors::default())
            .unwrap();
        let levels = VectorLevels::of(&stored.tensor).unwrap();
        let numbers = stored.tensor.packed.clone();
        let again = levels.with_numbers(&shape, &stored.tensor.partition, numbers);
        assert_eq!(again, stored.tensor);
    }
}
