//! Dense layers and matrix products.

use campana_ir::op::Gemm as Attributes;
use rayon::prelude::*;

use crate::broadcast::{Runs, reduce};
use crate::error::Fault;
use crate::product::Matrix;
use crate::rule::{Gradients, Reads, Rule, Step};

/// `Gemm`.
#[derive(Debug)]
pub(crate) struct Gemm(pub(crate) Attributes);

/// `MatMul`.
#[derive(Debug)]
pub(crate) struct MatMul;

fn matrix_extents(shape: &[usize]) -> Result<[usize; 2], Fault> {
    match *shape {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(Fault::invalid(format!("{shape:?} is no matrix"))),
    }
}

impl Rule for Gemm {
    fn reads(&self, wanted: &[bool]) -> Reads {
        Reads::of_product(wanted)
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let output = at.output_shape(0)?;
        let [rows, columns] = matrix_extents(output)?;
        let by = Matrix::new(&gradient, rows, columns);
        let scaled = |mut values: Vec<f32>, factor: f32| {
            if factor != 1.0 {
                values.iter_mut().for_each(|value| *value *= factor);
            }
            values
        };
        let Attributes {
            alpha,
            beta,
            transpose_a,
            transpose_b,
        } = self.0;
        let mut gradients = vec![None; at.node.inputs.len()];
        if at.wants(0) {
            let [r, c] = matrix_extents(at.shape(1)?)?;
            let right = Matrix::new(at.floats(1)?, r, c);
            let depth = if transpose_b { c } else { r };
            let mut own = vec![0.0; rows * depth];
            match transpose_b {
                true => by.multiply_add(right, &mut own),
                false => by.multiply_transposed_add(right, &mut own),
            }
            if transpose_a {
                own = Matrix::new(&own, rows, depth).transposed();
            }
            gradients[0] = Some(scaled(own, alpha));
        }
        if at.wants(1) {
            let [r, c] = matrix_extents(at.shape(0)?)?;
            let left = Matrix::new(at.floats(0)?, r, c);
            let depth = if transpose_a { r } else { c };
            let mut own = vec![0.0; depth * columns];
            match transpose_a {
                true => left.multiply_add(by, &mut own),
                false => {
                    let transposed = left.transposed();
                    Matrix::new(&transposed, c, r).multiply_add(by, &mut own);
                }
            }
            if transpose_b {
                own = Matrix::new(&own, depth, columns).transposed();
            }
            gradients[1] = Some(scaled(own, alpha));
        }
        if at.wants(2) {
            let own = reduce(gradient, output, at.shape(2)?)?;
            gradients[2] = Some(scaled(own, beta));
        }
        Ok(gradients)
    }
}

impl Rule for MatMul {
    fn reads(&self, wanted: &[bool]) -> Reads {
        Reads::of_product(wanted)
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let products = Products::new(at.shape(0)?, at.shape(1)?)?;
        let [rows, depth, columns] = products.extents;
        let mut gradients = vec![None; 2];
        if at.wants(0) {
            let right = at.floats(1)?;
            let mut own = vec![0.0; at.shape(0)?.iter().product()];
            for (i, [a, b]) in products.places.iter().enumerate() {
                let by = Matrix::new(
                    &gradient[i * rows * columns..][..rows * columns],
                    rows,
                    columns,
                );
                let right = Matrix::new(
                    &right[b * depth * columns..][..depth * columns],
                    depth,
                    columns,
                );
                let sums = &mut own[a * rows * depth..][..rows * depth];
                by.multiply_transposed_add(right, sums);
            }
            gradients[0] = Some(own);
        }
        if at.wants(1) {
            let left = at.floats(0)?;
            let transposed: Vec<Vec<f32>> = left
                .par_chunks_exact((rows * depth).max(1))
                .map(|left| Matrix::new(left, rows, depth).transposed())
                .collect();
            let mut own = vec![0.0; at.shape(1)?.iter().product()];
            for (i, [a, b]) in products.places.iter().enumerate() {
                let by = Matrix::new(
                    &gradient[i * rows * columns..][..rows * columns],
                    rows,
                    columns,
                );
                let left = Matrix::new(&transposed[*a], depth, rows);
                let sums = &mut own[b * depth * columns..][..depth * columns];
                left.multiply_add(by, sums);
            }
            gradients[1] = Some(own);
        }
        Ok(gradients)
    }
}

/// The matrix products of a `MatMul`.
struct Products {
    /// Rows, inner extent and columns of each.
    extents: [usize; 3],
    /// Which matrices of the two inputs are multiplied, in the output's order.
    places: Vec<[usize; 2]>,
}

impl Products {
    fn new(left: &[usize], right: &[usize]) -> Result<Self, Fault> {
        // Vectors are matrices of one row or column.
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        if left.len() == 1 {
            left.insert(0, 1);
        }
        if right.len() == 1 {
            right.push(1);
        }
        let ([outer_left @ .., rows, depth], [outer_right @ .., _, columns]) = (&*left, &*right)
        else {
            return Err(Fault::invalid("an operand without axes"));
        };
        if outer_right.iter().all(|&extent| extent == 1) {
            // All rows with the same right-hand matrix.
            let rows = rows * outer_left.iter().product::<usize>();
            return Ok(Self {
                extents: [rows, *depth, *columns],
                places: vec![[0, 0]],
            });
        }
        let rank = outer_left.len().max(outer_right.len());
        let of = |outer: &[usize], axis: usize| {
            (axis + outer.len())
                .checked_sub(rank)
                .map_or(1, |axis| outer[axis])
        };
        let outer: Vec<usize> = (0..rank)
            .map(|axis| of(outer_left, axis).max(of(outer_right, axis)))
            .collect();
        let places_of = |operand: &[usize]| -> Result<Vec<usize>, Fault> {
            let runs = Runs::new(operand, &outer)?;
            let mut places = vec![0; outer.iter().product()];
            runs.visit(|run, at| {
                for (i, place) in places[run].iter_mut().enumerate() {
                    *place = at + i * runs.step();
                }
            });
            Ok(places)
        };
        let pairs = places_of(outer_left)?
            .into_iter()
            .zip(places_of(outer_right)?);
        Ok(Self {
            extents: [*rows, *depth, *columns],
            places: pairs.map(|(left, right)| [left, right]).collect(),
        })
    }
}
