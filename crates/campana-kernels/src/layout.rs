//! Moving images between channels-first and channels-last, and padding them.

use crate::pool::ThreadPool;

/// Side of the square blocks that are transposed at once.
const BLOCK: usize = 16;

/// `[channels, pixels]` to `[pixels, channels]`.
///
/// # Panics
///
/// Where the lengths differ or are no multiple of `channels`.
pub fn channels_last(input: &[f32], channels: usize, output: &mut [f32]) {
    assert_eq!(
        input.len(),
        output.len(),
        "a transposition keeps the length"
    );
    if let Some(pixels) = input.len().checked_div(channels) {
        transpose(input, channels, pixels, output);
    }
}

/// `[pixels, channels]` to `[channels, pixels]`.
///
/// # Panics
///
/// Where the lengths differ or are no multiple of `channels`.
pub fn channels_first(input: &[f32], channels: usize, output: &mut [f32]) {
    assert_eq!(
        input.len(),
        output.len(),
        "a transposition keeps the length"
    );
    if let Some(pixels) = input.len().checked_div(channels) {
        transpose(input, pixels, channels, output);
    }
}

/// `[rows, columns]` to `[columns, rows]`.
///
/// # Panics
///
/// Where a slice is not `rows * columns` long.
pub fn transpose<T: Copy>(input: &[T], rows: usize, columns: usize, output: &mut [T]) {
    assert_eq!(input.len(), rows * columns, "input's length");
    assert_eq!(output.len(), rows * columns, "output's length");
    if rows == 1 || columns == 1 {
        return output.copy_from_slice(input);
    }
    for row_block in (0..rows).step_by(BLOCK) {
        let row_end = rows.min(row_block + BLOCK);
        for column_block in (0..columns).step_by(BLOCK) {
            let column_end = columns.min(column_block + BLOCK);
            for column in column_block..column_end {
                let to = &mut output[column * rows + row_block..column * rows + row_end];
                let from = input[row_block * columns + column..]
                    .iter()
                    .step_by(columns);
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
    }
}

/// Bytes below which copying on another thread costs more than it gives.
const MIN_BYTES_PER_THREAD: usize = 16 << 10;

/// Copies `planes` images `[height, width * pixel]` into larger ones with a border of
/// zeros: `before` and `after` are the rows and pixels to add on each axis.
///
/// # Panics
///
/// Where a slice is not as long as its shape.
pub fn pad(
    pool: &ThreadPool,
    input: &[f32],
    planes: usize,
    [height, width, pixel]: [usize; 3],
    before: [usize; 2],
    after: [usize; 2],
    output: &mut [f32],
) {
    let row = width * pixel;
    let padded_row = (before[1] + width + after[1]) * pixel;
    let padded_height = before[0] + height + after[0];
    assert_eq!(input.len(), planes * height * row, "input's length");
    assert_eq!(
        output.len(),
        planes * padded_height * padded_row,
        "output's length"
    );
    if output.is_empty() {
        return;
    }
    let rows = planes * padded_height;
    let threads = pool
        .threads()
        .min(size_of_val(output) / MIN_BYTES_PER_THREAD)
        .max(1);
    pool.for_chunks(
        output,
        rows.div_ceil(threads) * padded_row,
        |chunk, output| {
            let first = chunk * rows.div_ceil(threads);
            for (i, output) in output.chunks_exact_mut(padded_row).enumerate() {
                let (plane, y) = ((first + i) / padded_height, (first + i) % padded_height);
                match y.checked_sub(before[0]).filter(|&y| y < height) {
                    Some(y) => {
                        let (left, rest) = output.split_at_mut(before[1] * pixel);
                        let (middle, right) = rest.split_at_mut(row);
                        left.fill(0.0);
                        middle.copy_from_slice(&input[(plane * height + y) * row..][..row]);
                        right.fill(0.0);
                    }
                    None => output.fill(0.0),
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_gives_the_same() {
        for (rows, columns) in [(1, 1), (3, 50), (16, 16), (17, 33), (5, 1)] {
            let input: Vec<usize> = (0..rows * columns).collect();
            let (mut once, mut twice) = (vec![0; input.len()], vec![0; input.len()]);
            transpose(&input, rows, columns, &mut once);
            transpose(&once, columns, rows, &mut twice);
            assert_eq!(twice, input);
            assert_eq!(once[(columns - 1) * rows], columns - 1);
        }
    }

    #[test]
    fn padding_surrounds_every_plane_with_zeros() {
        for threads in [1, 2] {
            let mut output = vec![f32::NAN; 2 * 4 * 8];
            let input: Vec<f32> = (1..=24).map(|v| v as f32).collect();
            let pool = ThreadPool::new(threads);
            pad(&pool, &input, 2, [2, 3, 2], [1, 0], [1, 1], &mut output);
            assert_eq!(output[..8], [0.0; 8]);
            assert_eq!(output[8..16], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]);
            assert_eq!(
                output[48..56],
                [19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 0.0, 0.0]
            );
            assert_eq!(output[56..], [0.0; 8]);
        }
    }
}
