//! Matrix products.

use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_tensor::{ElementType, Tensor};

use super::Operator;
use super::call::{Call, Fault, one};
use super::indexing::{broadcast_indices, broadcast_shape};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "MatMul" => matmul,
        "Gemm" => general,
        "Det" => determinant,
        _ => return None,
    })
}

pub(super) fn product(
    call: &Call<'_>,
    a: &[f32],
    b: &PackedMatrix,
    rows: usize,
    output: &mut [f32],
) {
    gemm(
        call.isa,
        call.pool,
        a,
        Grid::rows(rows, b.rows()),
        RowRuns::contiguous(b.rows()),
        b,
        Epilogue::NONE,
        output,
        Grid::rows(rows, b.columns()),
    );
}

/// The shape of a MatMul's result and, for each of its matrices, which ones of `a` and `b` make it.
pub(crate) fn matmul_shape(a: &[usize], b: &[usize]) -> Result<MatmulShape, Fault> {
    let failed = || Fault::invalid(format!("shapes {a:?} and {b:?} have no product"));
    let (mut left, mut right) = (a.to_vec(), b.to_vec());
    if left.is_empty() || right.is_empty() {
        return Err(failed());
    }
    if a.len() == 1 {
        left.insert(0, 1);
    }
    if b.len() == 1 {
        right.push(1);
    }
    let (outer_left, [rows, depth]) = left.split_last_chunk::<2>().ok_or_else(failed)?;
    let (outer_right, [depth_right, columns]) = right.split_last_chunk::<2>().ok_or_else(failed)?;
    if depth != depth_right {
        return Err(failed());
    }
    let outer = broadcast_shape(&[outer_left, outer_right])?;
    let pairs = broadcast_indices(outer_left, &outer)
        .into_iter()
        .zip(broadcast_indices(outer_right, &outer))
        .collect();
    let mut shape = outer;
    if a.len() > 1 {
        shape.push(*rows);
    }
    if b.len() > 1 {
        shape.push(*columns);
    }
    Ok(MatmulShape {
        shape,
        pairs,
        rows: *rows,
        depth: *depth,
        columns: *columns,
    })
}

pub(crate) struct MatmulShape {
    pub(crate) shape: Vec<usize>,
    pub(crate) pairs: Vec<(usize, usize)>,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

fn matmul(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((a_shape, a), (b_shape, b)) = (call.floats(0)?, call.floats(1)?);
    let MatmulShape {
        shape,
        pairs,
        rows,
        depth,
        columns,
    } = matmul_shape(a_shape, b_shape)?;
    let mut output = vec![0.0; call.count(&shape, ElementType::F32)?];
    let mut packed: Option<(usize, PackedMatrix)> = None;
    for (i, (left, right)) in pairs.into_iter().enumerate() {
        let matrix = &b[right * depth * columns..][..depth * columns];
        let packed = match &mut packed {
            Some((of, packed)) if *of == right => packed,
            packed => {
                let matrix = PackedMatrix::pack(depth, columns, |r, c| matrix[r * columns + c]);
                &packed.insert((right, matrix)).1
            }
        };
        let rows_of_a = &a[left * rows * depth..][..rows * depth];
        product(
            call,
            rows_of_a,
            packed,
            rows,
            &mut output[i * rows * columns..][..rows * columns],
        );
    }
    one(&shape, output)
}

fn general(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((a_shape, a), (b_shape, b)) = (call.floats(0)?, call.floats(1)?);
    let (&[a_rows, a_columns], &[b_rows, b_columns]) = (a_shape, b_shape) else {
        return Err(Fault::invalid(format!(
            "two matrices expected, found {a_shape:?} and {b_shape:?}"
        )));
    };
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let trans_a = call.int("transA", 0)? != 0;
    let trans_b = call.int("transB", 0)? != 0;
    let (rows, depth) = if trans_a {
        (a_columns, a_rows)
    } else {
        (a_rows, a_columns)
    };
    let (depth_b, columns) = if trans_b {
        (b_columns, b_rows)
    } else {
        (b_rows, b_columns)
    };
    if depth != depth_b {
        return Err(Fault::invalid(format!(
            "shapes {a_shape:?} and {b_shape:?} have no product"
        )));
    }
    let packed = PackedMatrix::pack(depth, columns, |r, c| {
        alpha
            * if trans_b {
                b[c * depth + r]
            } else {
                b[r * columns + c]
            }
    });
    let mut output = vec![0.0; call.count(&[rows, columns], ElementType::F32)?];
    if trans_a {
        let mut transposed = vec![0.0; a.len()];
        campana_kernels::layout::transpose(a, depth, rows, &mut transposed);
        product(call, &transposed, &packed, rows, &mut output);
    } else {
        product(call, a, &packed, rows, &mut output);
    }
    if let Some(c) = call.optional(2) {
        let shape = [rows, columns];
        if broadcast_shape(&[c.shape(), &shape])? != shape {
            return Err(Fault::invalid(format!(
                "a bias of shape {:?} for {shape:?}",
                c.shape()
            )));
        }
        let (_, values) = call.floats(2)?;
        for (output, at) in output.iter_mut().zip(broadcast_indices(c.shape(), &shape)) {
            *output += beta * values[at];
        }
    }
    one(&[rows, columns], output)
}

/// The determinants of matrices, by elimination with the greatest pivots.
fn determinant(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, mut values) = call.reals(0)?;
    let &[ref outer @ .., rows, columns] = shape else {
        return Err(Fault::invalid(format!("matrices of shape {shape:?}")));
    };
    if rows != columns {
        return Err(Fault::invalid(format!("matrices of shape {shape:?}")));
    }
    let mut result = Vec::with_capacity(outer.iter().product());
    for i in 0..outer.iter().product() {
        let matrix = &mut values[i * rows * rows..][..rows * rows];
        let mut product = 1.0;
        for k in 0..rows {
            call.check_interrupt()?;
            let size = |row: &usize| matrix[row * rows + k].abs();
            let pivot = (k..rows).max_by(|a, b| size(a).total_cmp(&size(b)));
            let pivot = pivot.unwrap_or(k);
            if pivot != k {
                (0..rows).for_each(|c| matrix.swap(pivot * rows + c, k * rows + c));
                product = -product;
            }
            let head = matrix[k * rows + k];
            product *= head;
            if head == 0.0 {
                break;
            }
            for row in k + 1..rows {
                let factor = matrix[row * rows + k] / head;
                for c in k..rows {
                    matrix[row * rows + c] -= factor * matrix[k * rows + c];
                }
            }
        }
        result.push(product);
    }
    super::call::one_of(call.kind(0)?, outer, result)
}
