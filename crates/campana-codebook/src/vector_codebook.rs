//! A codebook of vectors, and the search in it.

use alloc::vec;
use alloc::vec::Vec;

use crate::vectorize::vectorized;

/// Vectors that are compared at once.
const LANES: usize = 16;

/// 256 vectors of `dimension` floats: the codebook of vector quantization, of
/// which a byte names an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorCodebook {
    /// Component by component, shape `[dimension, 256]`.
    components: Vec<f32>,
    dimension: usize,
}

impl VectorCodebook {
    /// Entries of a codebook: as many as a byte has values.
    pub const LEN: usize = 256;

    /// The codebook of these vectors, one after another; fewer than 256 are
    /// filled up with the first.
    ///
    /// # Panics
    ///
    /// Where there are none, more than 256, or not whole vectors.
    pub fn new(vectors: &[f32], dimension: usize) -> Self {
        let fits = dimension > 0
            && !vectors.is_empty()
            && vectors.len() <= Self::LEN * dimension
            && vectors.len().is_multiple_of(dimension);
        assert!(fits, "1 to 256 vectors");
        let count = vectors.len() / dimension;
        let mut components = vec![0.0; Self::LEN * dimension];
        for (i, component) in components.chunks_exact_mut(Self::LEN).enumerate() {
            for (number, value) in component.iter_mut().enumerate() {
                let vector = if number < count { number } else { 0 };
                *value = vectors[vector * dimension + i];
            }
        }
        Self {
            components,
            dimension,
        }
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// One component of all vectors.
    pub fn component(&self, component: usize) -> &[f32] {
        &self.components[component * Self::LEN..][..Self::LEN]
    }

    /// One component of one vector.
    pub fn value(&self, number: u8, component: usize) -> f32 {
        self.components[component * Self::LEN + usize::from(number)]
    }

    /// All vectors, one after another.
    pub fn vectors(&self) -> Vec<f32> {
        let all = (0..=u8::MAX).flat_map(|number| (0..self.dimension).map(move |i| (number, i)));
        all.map(|(number, i)| self.value(number, i)).collect()
    }

    /// `v A v^T` of each vector `v`, for a symmetric `A`, shape `[dimension,
    /// dimension]`.
    ///
    /// # Panics
    ///
    /// Where the matrix has another shape.
    pub fn energies(&self, matrix: &[f32]) -> Vec<f32> {
        let d = self.dimension;
        assert_eq!(matrix.len(), d * d, "a matrix of the vectors' dimension");
        let mut energies = vec![0.0; Self::LEN];
        for i in 0..d {
            for j in 0..d {
                let factor = matrix[i * d + j];
                let pairs = self.component(i).iter().zip(self.component(j));
                for (energy, (a, b)) in energies.iter_mut().zip(pairs) {
                    *energy += factor * a * b;
                }
            }
        }
        energies
    }

    /// The squared length of each vector.
    pub fn squares(&self) -> Vec<f32> {
        let d = self.dimension;
        let identity = (0..d * d).map(|at| if at % (d + 1) == 0 { 1.0 } else { 0.0 });
        self.energies(&identity.collect::<Vec<f32>>())
    }

    /// The number of the vector `v` of least `energies[v] + v . linear`, the
    /// lowest of several, and that sum. With the vectors'
    /// [squares](Self::squares) and `-2 w` it is the one nearest to `w`.
    ///
    /// # Panics
    ///
    /// Where there are not as many energies as vectors or as many terms as
    /// components.
    pub fn least(&self, energies: &[f32], linear: &[f32]) -> (u8, f32) {
        assert_eq!(energies.len(), Self::LEN, "one energy a vector");
        assert_eq!(linear.len(), self.dimension, "one term a component");
        let mut best = [f32::INFINITY; LANES];
        let mut place = [0f32; LANES];
        vectorized(
            #[inline(always)]
            || {
                for block in 0..Self::LEN / LANES {
                    let mut sums = [0f32; LANES];
                    sums.copy_from_slice(&energies[block * LANES..][..LANES]);
                    for (component, &factor) in self.components.chunks_exact(Self::LEN).zip(linear)
                    {
                        let values = &component[block * LANES..][..LANES];
                        for lane in 0..LANES {
                            sums[lane] += factor * values[lane];
                        }
                    }
                    for lane in 0..LANES {
                        let is_less = sums[lane] < best[lane];
                        best[lane] = if is_less { sums[lane] } else { best[lane] };
                        place[lane] = if is_less { block as f32 } else { place[lane] };
                    }
                }
            },
        );
        let mut found = (0, f32::INFINITY);
        for lane in 0..LANES {
            let number = place[lane] as usize * LANES + lane;
            if best[lane] < found.1 || (best[lane] == found.1 && number < found.0) {
                found = (number, best[lane]);
            }
        }
        (found.0 as u8, found.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_vectors_are_filled_up_with_the_first() {
        let codebook = VectorCodebook::new(&[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!(codebook.value(1, 1), 4.0);
        assert_eq!(codebook.vectors()[4..6], [1.0, 2.0]);
        let (number, sum) = codebook.least(&codebook.squares(), &[-6.0, -8.0]);
        assert_eq!((number, sum), (1, -25.0));
    }

    proptest! {
        #[test]
        fn the_least_sum_is_found(
            vectors in prop::collection::vec(-1.0f32..1.0, 256 * 3),
            weights in prop::array::uniform3(-1.0f32..1.0),
        ) {
            let codebook = VectorCodebook::new(&vectors, 3);
            let linear = weights.map(|weight| -2.0 * weight);
            let (found, _) = codebook.least(&codebook.squares(), &linear);
            let distance = |number: usize| -> f32 {
                let pairs = vectors[number * 3..][..3].iter().zip(&weights);
                pairs.map(|(v, w)| (v - w) * (v - w)).sum()
            };
            let least = (0..256).map(distance).fold(f32::INFINITY, f32::min);
            prop_assert!(distance(usize::from(found)) <= least + 1e-5);
        }
    }
}
