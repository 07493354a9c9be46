//! The machine's peak: how fast the dense kernels' multiply-accumulate steps
//! run where nothing else is to be done.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::aligned::AlignedBuffer;
use crate::int8::groups::{self, Groups};
use crate::int8::vector::{Int8, MAX_BYTES, MAX_SUMS};
use crate::isa::{Int8Kernel, Isa, Kernel};
use crate::pool::ThreadPool;
use crate::vector::Vector;

/// Time that a repetition takes at least, at most about twice that: short enough
/// to find a moment on a busy machine when all threads run, long beside what
/// waking them costs.
const REPETITION: Duration = Duration::from_millis(3);

/// Repetitions of which the fastest counts; a whole measurement takes 0.2 to 0.4 s.
const REPETITIONS: usize = 30;

/// Operations per second, two for each product: a multiplication and an addition.
///
/// ```
/// use campana_kernels::{Isa, Peak, ThreadPool};
///
/// let peak = Peak::measure(Isa::detect(), &ThreadPool::serial());
/// assert!(peak.integer_ops_per_s > 0.0 && peak.float_ops_per_s > 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// On 8-bit codes, summed in 32 bits.
    pub integer_ops_per_s: f64,
    /// On 32-bit floats.
    pub float_ops_per_s: f64,
}

impl Peak {
    /// Measures what all threads of a pool reach together with an ISA's
    /// instructions: the register tile of the dense kernels, its operands in
    /// the L1 cache. The pool must not be at other work; other programs
    /// and the clock's changes show, as in every timing.
    pub fn measure(isa: Isa, pool: &ThreadPool) -> Self {
        Self::of_repetitions(isa, pool, REPETITION, REPETITIONS)
    }

    fn of_repetitions(isa: Isa, pool: &ThreadPool, time: Duration, count: usize) -> Self {
        let operands = Operands::new();
        let steps = |rounds| Steps {
            inputs: operands.inputs.as_bytes().as_ptr(),
            weights: operands.weights.as_bytes().as_ptr(),
            rounds,
        };
        Self {
            integer_ops_per_s: fastest(pool, time, count, |rounds| {
                // SAFETY: the operands are as long as the steps read.
                unsafe { isa.run_int8(steps(rounds)) }
            }),
            float_ops_per_s: fastest(pool, time, count, |rounds| {
                // SAFETY: as above.
                unsafe { isa.run(steps(rounds)) }
            }),
        }
    }
}

/// Operations per second of the fastest of `count` repetitions on all threads.
/// `products` does so many rounds of steps and says how many products they had.
fn fastest(
    pool: &ThreadPool,
    time: Duration,
    count: usize,
    products: impl Fn(usize) -> u64 + Sync,
) -> f64 {
    let (mut rounds, mut left, mut best) = (1, count, 0.0);
    while left > 0 {
        let done = AtomicU64::new(0);
        let start = Instant::now();
        pool.run(pool.threads(), |_| {
            done.fetch_add(products(rounds), Ordering::Relaxed);
        });
        let elapsed = start.elapsed();
        if elapsed < time {
            rounds *= 2;
            continue;
        }
        best = f64::max(best, 2.0 * done.into_inner() as f64 / elapsed.as_secs_f64());
        left -= 1;
    }
    best
}

/// Steps of a round; then the same operands come again.
const STEPS: usize = 64;

/// Most rows of the tile at any ISA. Times [`VECTORS`] they are sums that do
/// not wait for each other: two instructions a cycle take ten, of five cycles each.
const MAX_ROWS: usize = 6;

/// Vectors of columns of the tile.
const VECTORS: usize = 2;

/// What the steps multiply, 10 KB.
struct Operands {
    /// Four bytes or a float for each row and step.
    inputs: AlignedBuffer,
    /// Vectors of bytes or floats for each step.
    weights: AlignedBuffer,
}

impl Operands {
    /// Bit patterns that are harmless as floats, below 1 and -755, and as bytes,
    /// whose products add up to nothing in each four: no sum overflows.
    fn new() -> Self {
        let mut operands = Self {
            inputs: AlignedBuffer::zeros(MAX_ROWS * STEPS),
            weights: AlignedBuffer::zeros(STEPS * VECTORS * MAX_BYTES / 4),
        };
        for (i, input) in operands.inputs.as_mut_slice().iter_mut().enumerate() {
            *input = f32::from_le_bytes([32 + (i * 37 % 32) as u8; 4]);
        }
        let weight = [60i8, -60, 60, -60].map(i8::cast_unsigned);
        operands
            .weights
            .as_mut_slice()
            .fill(f32::from_le_bytes(weight));
        operands
    }
}

/// Rounds of steps over operands that are as long as `Operands` makes them.
struct Steps {
    inputs: *const u8,
    weights: *const u8,
    rounds: usize,
}

impl Steps {
    /// # Safety
    ///
    /// As for `run_on_codes`, with `MAX_ROWS` rows.
    #[inline(always)]
    unsafe fn run_on_floats<V: Vector>(&self) -> u64 {
        let mut sums = [[V::splat(0.0); VECTORS]; MAX_ROWS];
        for _ in 0..self.rounds {
            let inputs: *const f32 = black_box(self.inputs).cast();
            let weights: *const f32 = black_box(self.weights).cast();
            for step in 0..STEPS {
                // SAFETY: the operands hold a value for each row and step, and
                // the longest vectors for each step.
                unsafe {
                    let mut w = [sums[0][0]; VECTORS];
                    for j in 0..VECTORS {
                        w[j] = V::load(weights.add((step * VECTORS + j) * V::LANES));
                    }
                    for i in 0..MAX_ROWS {
                        let value = V::splat(*inputs.add(i * STEPS + step));
                        for j in 0..VECTORS {
                            sums[i][j] = value.mul_add(w[j], sums[i][j]);
                        }
                    }
                }
            }
        }
        black_box(sums);
        (self.rounds * STEPS * MAX_ROWS * VECTORS * V::LANES) as u64
    }

    /// # Safety
    ///
    /// The processor has the instructions of `V`; `ROWS` is at most `MAX_ROWS`.
    #[inline(always)]
    unsafe fn run_on_codes<V: Int8, const ROWS: usize>(&self) -> u64 {
        let zeros = [0; MAX_SUMS];
        // SAFETY: there are zeros for the longest vector.
        let mut sums = [[unsafe { V::load_sums(zeros.as_ptr()) }; VECTORS]; ROWS];
        for _ in 0..self.rounds {
            let (inputs, weights) = black_box((self.inputs, self.weights));
            for step in (0..STEPS).step_by(2) {
                // SAFETY: as in `run_on_floats`.
                unsafe {
                    let mut w = [V::splat(0); 2 * VECTORS];
                    for j in 0..2 * VECTORS {
                        w[j] = V::load(weights.add((step * VECTORS + j) * V::BYTES));
                    }
                    if V::EXACT {
                        for second in 0..2 {
                            for i in 0..ROWS {
                                let a = V::broadcast4(inputs.add(4 * (i * STEPS + step + second)));
                                for j in 0..VECTORS {
                                    sums[i][j] = V::dot1(sums[i][j], [a, w[second * VECTORS + j]]);
                                }
                                V::hold_loads();
                            }
                        }
                    } else {
                        for i in 0..ROWS {
                            let a = V::broadcast4(inputs.add(4 * (i * STEPS + step)));
                            let b = V::broadcast4(inputs.add(4 * (i * STEPS + step + 1)));
                            for j in 0..VECTORS {
                                sums[i][j] = V::dot2(sums[i][j], [a, w[j]], [b, w[VECTORS + j]]);
                            }
                        }
                    }
                }
            }
        }
        black_box(sums);
        (self.rounds * STEPS * ROWS * VECTORS * V::BYTES) as u64
    }
}

/// Rows and vectors of columns of the tile of ISAs that read four groups of a
/// row at once.
const QUAD_ROWS: usize = 4;
const QUAD_VECTORS: usize = 4;

impl Steps {
    /// # Safety
    ///
    /// As for `run_on_codes`; the ISA's vectors have 16 bytes.
    #[inline(always)]
    unsafe fn run_on_quads<V: Int8>(&self) -> u64 {
        let zeros = [0; MAX_SUMS];
        let offsets: [u32; 2 * STEPS] = core::array::from_fn(|group| 4 * group as u32);
        // SAFETY: the operands hold the weights of 64 steps of four such vectors,
        // and more than three times 16 bytes behind a row's first 128 groups.
        unsafe {
            let mut sums = [[V::load_sums(zeros.as_ptr()); QUAD_VECTORS]; QUAD_ROWS];
            for _ in 0..self.rounds {
                let (first, bytes) = black_box((self.inputs, self.weights));
                let mut inputs = [first; groups::MAX_ROWS];
                for i in 0..QUAD_ROWS {
                    inputs[i] = first.add(16 * i);
                }
                let groups = Groups {
                    inputs: &inputs,
                    offsets: offsets.as_ptr(),
                    bytes,
                    table: bytes,
                    joined: STEPS,
                    apart: 0,
                    ahead: bytes,
                    ahead_stride: 0,
                };
                sums = V::add_products::<QUAD_ROWS, QUAD_VECTORS, 8>(&groups, sums);
            }
            black_box(sums);
        }
        (self.rounds * STEPS * 2 * QUAD_ROWS * QUAD_VECTORS * V::BYTES) as u64
    }
}

impl Kernel for Steps {
    /// Products.
    type Output = u64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> u64 {
        // SAFETY: the operands suffice for these rows.
        unsafe { self.run_on_floats::<V>() }
    }
}

impl Int8Kernel for Steps {
    /// Products.
    type Output = u64;

    #[inline(always)]
    unsafe fn run<V: Int8>(self) -> u64 {
        // SAFETY: the operands suffice for these rows.
        unsafe {
            if const { V::QUADS } {
                return self.run_on_quads::<V>();
            }
            match V::EXACT {
                true => self.run_on_codes::<V, MAX_ROWS>(),
                // Sums in 16 bits take registers too.
                false => self.run_on_codes::<V, 4>(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_peak() {
        for isa in Isa::available() {
            for threads in [1, 2] {
                let pool = ThreadPool::new(threads);
                let peak = Peak::of_repetitions(isa, &pool, Duration::from_millis(1), 2);
                for ops_per_s in [peak.integer_ops_per_s, peak.float_ops_per_s] {
                    assert!(
                        ops_per_s.is_finite() && ops_per_s > 0.0,
                        "{isa:?}: {peak:?}"
                    );
                }
            }
        }
    }
}
