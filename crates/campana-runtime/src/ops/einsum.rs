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
const MAX_PRODUCTS: usize = 1 << 36;

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
    let mut inputs = Vec::new();
    // Every axis with its extent.
    let mut extents: Vec<(Axis, usize)> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let (shape, values) = call.reals(i)?;
        let axes = axes_of(term, shape.len())?;
        for (&axis, &dim) in axes.iter().zip(shape) {
            match extents.iter_mut().find(|(known, _)| *known == axis) {
                Some((_, known)) if *known == 1 => *known = dim,
                Some((_, known)) if dim != 1 && *known != dim => {
                    return Err(Fault::invalid(format!(
                        "{dim} beside {known} in {equation:?}"
                    )));
                }
                Some(_) => {}
                None => extents.push((axis, dim)),
            }
        }
        inputs.push((axes, shape, values));
    }
    let rest = extents
        .iter()
        .filter(|(axis, _)| matches!(axis, Axis::Rest(_)))
        .count();
    let kept = match result {
        Some(result) => {
            let letters = result.replace("...", "").chars().count();
            let own_rest = if result.contains("...") { rest } else { 0 };
            axes_of(result, letters + own_rest)?
        }
        None => implicit_result(&inputs.iter().map(|(axes, ..)| &**axes).collect::<Vec<_>>()),
    };
    let extent_of = |axis: &Axis| {
        let found = extents.iter().find(|(known, _)| known == axis);
        found
            .map(|(_, dim)| *dim)
            .ok_or_else(|| Fault::invalid(format!("an axis of the result of {equation:?}")))
    };
    let shape = kept.iter().map(extent_of).collect::<Result<Vec<_>, _>>()?;
    let summed: Vec<Axis> = extents
        .iter()
        .map(|(axis, _)| *axis)
        .filter(|axis| !kept.contains(axis))
        .collect();
    let summed_dims = summed
        .iter()
        .map(extent_of)
        .collect::<Result<Vec<_>, _>>()?;
    let products = count_of(&shape)?.saturating_mul(summed_dims.iter().product());
    if products > MAX_PRODUCTS {
        return Err(Fault::unsupported(format!("{products} products")));
    }
    let outer: Vec<Vec<usize>> = inputs
        .iter()
        .map(|(axes, shape, _)| steps(&kept, axes, shape))
        .collect();
    let inner: Vec<Vec<usize>> = inputs
        .iter()
        .map(|(axes, shape, _)| steps(&summed, axes, shape))
        .collect();
    let place = |index: &[usize], steps: &[usize]| -> usize {
        index.iter().zip(steps).map(|(i, step)| i * step).sum()
    };
    let count = call.count(&shape, ElementType::F64)?;
    let mut output = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    let is_empty = summed_dims.contains(&0);
    while output.len() < count {
        call.check_interrupt()?;
        let starts: Vec<usize> = outer.iter().map(|steps| place(&index, steps)).collect();
        let mut sum = 0.0;
        let mut within = vec![0; summed.len()];
        while !is_empty {
            sum += inputs
                .iter()
                .enumerate()
                .map(|(i, (.., values))| values[starts[i] + place(&within, &inner[i])])
                .product::<f64>();
            if !advance(&mut within, &summed_dims) {
                break;
            }
        }
        output.push(sum);
        advance(&mut index, &shape);
    }
    one_of(call.kind(0)?, &shape, output)
}

/// The axes of a result that is not named: those of the ellipsis, then the
/// letters that occur once, by the alphabet.
fn implicit_result(terms: &[&[Axis]]) -> Vec<Axis> {
    let all = || terms.iter().flat_map(|axes| axes.iter().copied());
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
