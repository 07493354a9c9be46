//! Mean and variance of each channel of a value.

use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_rounding::{add_with_squares, sum_and_squares};
use campana_tensor::Tensor;
use rayon::prelude::*;

use crate::correct::activation_cache::floats;

/// Channels of which the images show less than this share of the variance
/// that a normalization knows are left alone: too little was seen of them.
pub(crate) const MIN_SEEN_VARIANCE: f64 = 1e-4;

/// Bounds of the factor on a variance.
pub(crate) const VARIANCE_FACTORS: [f64; 2] = [0.25, 4.0];

/// Channels whose sums one thread adds to row by row.
const CHANNELS_AT_ONCE: usize = 64;

/// Sums over all elements of each channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChannelStatistics {
    count: usize,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl ChannelStatistics {
    /// Adds a batch whose channels lie along `axis`.
    pub(crate) fn add(&mut self, batch: &Tensor, axis: usize) -> Result<(), Error> {
        let shape = batch.shape();
        let values = floats(batch)?;
        let Some(&channels) = shape.get(axis) else {
            return Err(unsupported(format!(
                "a value of shape {shape:?} has no channels"
            )));
        };
        self.sums.resize(channels, 0.0);
        self.squares.resize(channels, 0.0);
        self.count += values.len() / channels.max(1);
        let inner: usize = shape[axis + 1..].iter().product();
        let inner = inner.max(1);
        if inner == 1 {
            self.add_rows(values, channels);
            return Ok(());
        }
        let sums = self.sums.par_iter_mut().zip(&mut self.squares);
        sums.enumerate().for_each(|(channel, (sums, squares))| {
            for start in (channel * inner..values.len()).step_by(channels * inner) {
                let run = &values[start..(start + inner).min(values.len())];
                let [sum, square] = sum_and_squares(run);
                *sums += sum;
                *squares += square;
            }
        });
        Ok(())
    }

    /// Adds rows of one value for each channel, a block of channels at a time.
    fn add_rows(&mut self, rows: &[f32], channels: usize) {
        let sums = self.sums.par_chunks_mut(CHANNELS_AT_ONCE);
        let blocks = sums.zip(self.squares.par_chunks_mut(CHANNELS_AT_ONCE));
        blocks.enumerate().for_each(|(block, (sums, squares))| {
            let start = block * CHANNELS_AT_ONCE;
            for row in rows.chunks_exact(channels) {
                add_with_squares(&row[start..start + sums.len()], sums, squares);
            }
        });
    }

    /// The mean of each channel.
    pub(crate) fn means(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.sums.iter().map(|sum| sum / count).collect()
    }

    /// The variance of each channel.
    pub(crate) fn variances(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        let squares = self.squares.iter().zip(self.means());
        squares
            .map(|(square, mean)| (square / count - mean * mean).max(0.0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::TensorData;

    #[test]
    fn batches_add_up_channel_by_channel() {
        let mut statistics = ChannelStatistics::default();
        for values in [[1.0, 3.0, 10.0, 10.0], [5.0, 7.0, 10.0, 10.0]] {
            let batch = Tensor::new(vec![1, 2, 2], TensorData::F32(values.to_vec())).unwrap();
            statistics.add(&batch, 1).unwrap();
        }
        assert_eq!(statistics.means(), [4.0, 10.0]);
        assert_eq!(statistics.variances(), [5.0, 0.0]);
    }

    #[test]
    fn channels_that_lie_last_are_those_of_the_transposed_value() {
        let (rows, channels) = (5, CHANNELS_AT_ONCE + 3);
        let value = |row: usize, channel: usize| ((row * 7 + channel * 3) % 11) as f32;
        let last = (0..rows * channels).map(|at| value(at / channels, at % channels));
        let first = (0..rows * channels).map(|at| value(at % rows, at / rows));
        let tensor = |shape: [usize; 2], values: Vec<f32>| {
            Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
        };
        let of = |tensor: &Tensor, axis: usize| {
            let mut statistics = ChannelStatistics::default();
            statistics.add(tensor, axis).unwrap();
            (statistics.means(), statistics.variances())
        };
        let last = of(&tensor([rows, channels], last.collect()), 1);
        assert_eq!(last, of(&tensor([channels, rows], first.collect()), 0));
    }
}
