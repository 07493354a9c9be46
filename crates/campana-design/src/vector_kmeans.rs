//! Codebooks of vectors by k-means (the generalized Lloyd, or LBG, algorithm).

use campana_codebook::VectorCodebook;
use campana_tensor::SplitMix64;
use rayon::prelude::*;

/// Assignments and centroids; fewer where one gains less than `MIN_GAIN`.
const MAX_PASSES: usize = 40;

/// Relative drop of the squared error that is worth another pass.
const MIN_GAIN: f64 = 1e-3;

/// Vectors that one task sums up: fixed, so that sums do not depend on the
/// number of threads.
const CHUNK: usize = 4096;

/// The codebook of (nearly) least squared error for these vectors, one after
/// another: a local optimum, from seeds spread as k-means++ spreads them.
/// `None` where there are no vectors, or values that are not finite.
///
/// # References
///
/// Linde, Buzo, Gray, "An Algorithm for Vector Quantizer Design", IEEE
/// Transactions on Communications 28, 1980; Arthur, Vassilvitskii,
/// "k-means++: The Advantages of Careful Seeding", SODA 2007.
///
/// # Panics
///
/// Where the values are not whole vectors of 1 component or more.
pub fn vector_kmeans(vectors: &[f32], dimension: usize) -> Option<VectorCodebook> {
    assert!(
        dimension > 0 && vectors.len().is_multiple_of(dimension),
        "whole vectors"
    );
    if vectors.is_empty() || vectors.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut table = seeds(vectors, dimension);
    let mut last_error = f64::INFINITY;
    for _ in 0..MAX_PASSES {
        let codebook = VectorCodebook::new(&table, dimension);
        let sums = assign(vectors, &codebook);
        if sums.error >= last_error * (1.0 - MIN_GAIN) {
            break;
        }
        last_error = sums.error;
        let entries = table.chunks_exact_mut(dimension);
        for ((entry, sum), &count) in entries
            .zip(sums.values.chunks_exact(dimension))
            .zip(&sums.counts)
        {
            // An entry that nothing is nearest to stays where it is.
            if count > 0.0 {
                for (value, sum) in entry.iter_mut().zip(sum) {
                    *value = (sum / count) as f32;
                }
            }
        }
    }
    Some(VectorCodebook::new(&table, dimension))
}

/// What one pass sums up.
struct Sums {
    /// Vectors assigned to each entry.
    counts: Vec<f64>,
    /// Their sums.
    values: Vec<f64>,
    error: f64,
}

fn assign(vectors: &[f32], codebook: &VectorCodebook) -> Sums {
    let dimension = codebook.dimension();
    let squares = codebook.squares();
    let none = || Sums {
        counts: vec![0.0; VectorCodebook::LEN],
        values: vec![0.0; VectorCodebook::LEN * dimension],
        error: 0.0,
    };
    let parts: Vec<Sums> = vectors
        .par_chunks(CHUNK * dimension)
        .map(|vectors| {
            let mut sums = none();
            let mut linear = vec![0.0; dimension];
            for vector in vectors.chunks_exact(dimension) {
                let pairs = linear.iter_mut().zip(vector);
                pairs.for_each(|(linear, value)| *linear = -2.0 * value);
                let (number, sum) = codebook.least(&squares, &linear);
                let place = usize::from(number);
                sums.counts[place] += 1.0;
                let values = &mut sums.values[place * dimension..][..dimension];
                for (sum, &value) in values.iter_mut().zip(vector) {
                    *sum += f64::from(value);
                }
                let own: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
                sums.error += (own + f64::from(sum)).max(0.0);
            }
            sums
        })
        .collect();
    parts.iter().fold(none(), |mut all, part| {
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        add(&mut all.counts, &part.counts);
        add(&mut all.values, &part.values);
        all.error += part.error;
        all
    })
}

/// Up to 256 of the vectors, each drawn with a probability proportional to its
/// squared distance from those before it.
fn seeds(vectors: &[f32], dimension: usize) -> Vec<f32> {
    let mut random = SplitMix64::new(0x5eed);
    let at = |number: usize| &vectors[number * dimension..][..dimension];
    let count = vectors.len() / dimension;
    let mut table = Vec::with_capacity(VectorCodebook::LEN * dimension);
    let mut next = (random.uniform() * count as f64) as usize;
    let mut distances = vec![f32::INFINITY; count];
    for _ in 0..VectorCodebook::LEN {
        let seed = at(next.min(count - 1));
        table.extend_from_slice(seed);
        distances
            .par_chunks_mut(CHUNK)
            .zip(vectors.par_chunks(CHUNK * dimension))
            .for_each(|(distances, vectors)| {
                let pairs = distances.iter_mut().zip(vectors.chunks_exact(dimension));
                for (distance, vector) in pairs {
                    let differences = vector.iter().zip(seed).map(|(a, b)| (a - b) * (a - b));
                    *distance = distance.min(differences.sum());
                }
            });
        let total: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        if total == 0.0 {
            break;
        }
        let mut left = random.uniform() * total;
        next = distances
            .iter()
            .position(|&distance| {
                left -= f64::from(distance);
                left < 0.0
            })
            .unwrap_or(count - 1);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard normal values.
    fn gaussian(count: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(7);
        let mut value = || -> f32 {
            let radius = (-2.0 * (1.0 - random.uniform()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * random.uniform()).cos()) as f32
        };
        (0..count).map(|_| value()).collect()
    }

    fn mean_error(vectors: &[f32], codebook: &VectorCodebook) -> f64 {
        assign(vectors, codebook).error / vectors.len() as f64
    }

    #[test]
    fn four_gaussian_weights_in_a_byte_beat_four_levels_each() {
        let vectors = gaussian(4 << 16);
        let codebook = vector_kmeans(&vectors, 4).unwrap();
        let sqnr = -10.0 * mean_error(&vectors, &codebook).log10();
        // Lloyd-Max at four levels has 9.30 dB; the best known table of 256
        // vectors of four 10.0.
        assert!((9.9..10.3).contains(&sqnr), "{sqnr} dB");
    }

    #[test]
    fn as_many_vectors_as_entries_lose_nothing() {
        let vectors = gaussian(2 * 200);
        let codebook = vector_kmeans(&vectors, 2).unwrap();
        assert!(mean_error(&vectors, &codebook) < 1e-6);
    }

    #[test]
    fn the_codebook_does_not_depend_on_the_number_of_threads() {
        let vectors = gaussian(8 * 5000);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| vector_kmeans(&vectors, 8))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn nothing_to_learn_from_gives_no_codebook() {
        assert!(vector_kmeans(&[], 4).is_none());
        assert!(vector_kmeans(&[0.0, f32::NAN], 2).is_none());
        let zeros = vector_kmeans(&[0.0; 8], 4).unwrap();
        assert_eq!(zeros.vectors(), [0.0; 1024]);
    }
}
