//! Sums of products over named axes.

use campana_tensor::{ElementType, Tensor};

use super::Operator;
use super::call::{Call, Fault, count_of, one_of};
use super::indexing::strides_of;
use super::windowed::advance;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    (op_type == "Einsum").then_some(einsum)
}

/// An axis: a letter, or one of those that an ellipsis stands for, counted
/// from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    Rest(usize),
    Letter(char),
}

/// The axes that a term names, for a tensor of this rank.
fn axes_of(term: &str, rank: usize) -> Result<Vec<Axis>, Fault> {
    let failed = || Fault::invalid(format!("the term {term:?} for {rank} axes"));
    let (before, after) = match term.split_once("...") {
        None => (term, None),
        Some((before, after)) => (before, Some(after)),
    };
    let letters = |text: &str| -> Result<Vec<Axis>, Fault> {
        match text.chars().all(char::is_alphabetic) {
            true => Ok(text.chars().map(Axis::Letter).collect()),
            false => Err(failed()),
        }
    };
    let mut axes = letters(before)?;
    if let Some(after) = after {
        let after = letters(after)?;
        let rest = rank
            .checked_sub(axes.len() + after.len())
            .ok_or_else(failed)?;
        axes.extend((0..rest).rev().map(Axis::Rest));
        axes.extend(after);
    }
    match axes.len() == rank {
        true => Ok(axes),
        false => Err(failed()),
    }
}

/// Steps of each named axis in a tensor with these axes; axes of one element
/// stay where they are.
fn steps(named: &[Axis], axes: &[Axis], shape: &[usize]) -> Vec<usize> {
    let strides = strides_of(shape);
    named
        .iter()
        .map(|name| {
            (0..axes.len())
                .filter(|&a| axes[a] == *name && shape[a] != 1)
                .map(|a| strides[a])
                .sum()
        })
        .collect()
}

/// Products up to which a sum is no mistake.
const MAX_PRODUCTS: u64 = 1 << 36;

/// An input with the axes that its term names.
struct Operand<'a> {
    axes: Vec<Axis>,
    shape: &'a [usize],
    values: Vec<f64>,
}

/// All axes with their extents.
struct Extents(Vec<(Axis, usize)>);

impl Extents {
    /// Notes an axis of an operand; those of one element are broadcast.
    fn add(&mut self, axis: Axis, dim: usize) -> Result<(), Fault> {
        match self.0.iter_mut().find(|(known, _)| *known == axis) {
            Some((_, known)) if *known == 1 => *known = dim,
            Some((_, known)) if dim != 1 && *known != dim => {
                return Err(Fault::invalid(format!(
                    "extents {dim} and {known} of one axis"
                )));
            }
            Some(_) => {}
            None => self.0.push((axis, dim)),
        }
        Ok(())
    }

    fn of(&self, axes: &[Axis]) -> Result<Vec<usize>, Fault> {
        let extent = |axis: &Axis| {
            let found = self.0.iter().find(|(known, _)| known == axis);
            found
                .map(|(_, dim)| *dim)
                .ok_or_else(|| Fault::invalid("an axis of the result that no input has"))
        };
        axes.iter().map(extent).collect()
    }
}

fn einsum(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let equation: String = call.string("equation", "")?.split_whitespace().collect();
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, Some(result)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = terms.split(',').collect();
    if terms.len() != call.inputs.len() {
        return Err(Fault::invalid(format!(
            "{equation:?} for {} inputs",
            call.inputs.len()
        )));
    }
    let mut operands = Vec::new();
    let mut extents = Extents(Vec::new());
    for (i, term) in terms.iter().enumerate() {
        let (shape, values) = call.reals(i)?;
        let axes = axes_of(term, shape.len())?;
        for (&axis, &dim) in axes.iter().zip(shape) {
            extents.add(axis, dim)?;
        }
        operands.push(Operand {
            axes,
            shape,
            values,
        });
    }
    let all = extents.0.iter().map(|(axis, _)| *axis);
    let rest = all.clone().filter(|axis| matches!(axis, Axis::Rest(_)));
    let kept = match result {
        Some(result) => {
            let letters = result.replace("...", "").chars().count();
            let own_rest = if result.contains("...") {
                rest.count()
            } else {
                0
            };
            axes_of(result, letters + own_rest)?
        }
        None => implicit_result(&operands),
    };
    let summed: Vec<Axis> = all.filter(|axis| !kept.contains(axis)).collect();
    let shape = extents.of(&kept)?;
    call.count(&shape, ElementType::F64)?;
    let output = sums(call, &operands, [&kept, &summed], &extents)?;
    one_of(call.kind(0)?, &shape, output)
}

/// The sums over some axes for all indices of others.
fn sums(
    call: &Call<'_>,
    operands: &[Operand<'_>],
    [kept, summed]: [&[Axis]; 2],
    extents: &Extents,
) -> Result<Vec<f64>, Fault> {
    let (dims, summed_dims) = (extents.of(kept)?, extents.of(summed)?);
    let count = count_of(&dims)?;
    let products = count.saturating_mul(summed_dims.iter().product());
    if products as u64 > MAX_PRODUCTS {
        return Err(Fault::unsupported(format!("{products} products")));
    }
    let steps_of = |named: &[Axis]| -> Vec<Vec<usize>> {
        let operands = operands.iter();
        operands
            .map(|operand| steps(named, &operand.axes, operand.shape))
            .collect()
    };
    let (outer, inner) = (steps_of(kept), steps_of(summed));
    let place = |index: &[usize], steps: &[usize]| -> usize {
        index.iter().zip(steps).map(|(i, step)| i * step).sum()
    };
    let mut output = Vec::with_capacity(count);
    let mut index = vec![0; dims.len()];
    let is_empty = summed_dims.contains(&0);
    while output.len() < count {
        call.check_interrupt()?;
        let starts: Vec<usize> = outer.iter().map(|steps| place(&index, steps)).collect();
        let mut sum = 0.0;
        let mut within = vec![0; summed_dims.len()];
        if !is_empty {
            loop {
                let factors = operands.iter().enumerate();
                sum += factors
                    .map(|(i, operand)| operand.values[starts[i] + place(&within, &inner[i])])
                    .product::<f64>();
                if !advance(&mut within, &summed_dims) {
                    break;
                }
            }
        }
        output.push(sum);
        advance(&mut index, &dims);
    }
    Ok(output)
}

/// The axes of a result that is not named: those of the ellipsis, then the
/// letters that occur once, by the alphabet.
fn implicit_result(operands: &[Operand<'_>]) -> Vec<Axis> {
    let all = || {
        operands
            .iter()
            .flat_map(|operand| operand.axes.iter().copied())
    };
    let mut letters: Vec<Axis> = all()
        .filter(|axis| matches!(axis, Axis::Letter(_)))
        .filter(|axis| all().filter(|other| other == axis).count() == 1)
        .collect();
    letters.sort_unstable();
    let mut rest: Vec<Axis> = all().filter(|axis| matches!(axis, Axis::Rest(_))).collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    rest.dedup();
    rest.extend(letters);
    rest
}
