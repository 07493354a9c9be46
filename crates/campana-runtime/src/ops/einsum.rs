//! Sums of products over named axes.

mod contraction;

use campana_tensor::{ElementType, Tensor, TensorData};
use contraction::{Factor, contracted};

use super::Operator;
use super::call::{Call, Fault, count_of, one, one_of};
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

/// An equation read for inputs of these shapes.
struct Equation {
    /// The axes of each input.
    terms: Vec<Vec<Axis>>,
    /// The axes of the result.
    kept: Vec<Axis>,
    extents: Extents,
}

impl Equation {
    fn parse(equation: &str, shapes: &[&[usize]]) -> Result<Self, Fault> {
        let equation: String = equation.split_whitespace().collect();
        let (inputs, result) = match equation.split_once("->") {
            Some((inputs, result)) => (inputs, Some(result)),
            None => (equation.as_str(), None),
        };
        let inputs: Vec<&str> = inputs.split(',').collect();
        if inputs.len() != shapes.len() {
            return Err(Fault::invalid(format!(
                "{equation:?} for {} inputs",
                shapes.len()
            )));
        }
        let mut terms = Vec::new();
        let mut extents = Extents(Vec::new());
        for (term, shape) in inputs.iter().zip(shapes) {
            let axes = axes_of(term, shape.len())?;
            for (&axis, &dim) in axes.iter().zip(*shape) {
                extents.add(axis, dim)?;
            }
            terms.push(axes);
        }
        let kept = match result {
            Some(result) => {
                let letters = result.replace("...", "").chars().count();
                let all = extents.0.iter();
                let rest = all.filter(|(axis, _)| matches!(axis, Axis::Rest(_)));
                let own_rest = if result.contains("...") {
                    rest.count()
                } else {
                    0
                };
                axes_of(result, letters + own_rest)?
            }
            None => implicit_result(&terms),
        };
        Ok(Self {
            terms,
            kept,
            extents,
        })
    }
}

fn einsum(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let inputs = (0..call.inputs.len())
        .map(|i| call.input(i))
        .collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
    let equation = Equation::parse(call.string("equation", "")?, &shapes)?;
    let shape = equation.extents.of(&equation.kept)?;
    let count = call.count(&shape, ElementType::F64)?;
    if let Some(factors) = factors(&equation, &inputs)
        && let Some(values) = contracted(call, factors, &equation.kept, count)?
    {
        return one(&shape, values);
    }
    one_of(call.kind(0)?, &shape, plain_sums(call, &equation)?)
}

/// The inputs as factors of matrix products; `None` where they are no floats,
/// or the equation has diagonals.
fn factors<'a>(equation: &Equation, inputs: &[&'a Tensor]) -> Option<Vec<Factor<'a>>> {
    let kept = &equation.kept;
    if (1..kept.len()).any(|i| kept[..i].contains(&kept[i])) {
        return None;
    }
    let inputs = inputs.iter().zip(&equation.terms);
    inputs
        .map(|(input, axes)| match input.data() {
            TensorData::F32(values) => Factor::of(axes, input.shape(), values),
            _ => None,
        })
        .collect()
}

/// The result of any equation, one product after another.
fn plain_sums(call: &Call<'_>, equation: &Equation) -> Result<Vec<f64>, Fault> {
    let mut operands = Vec::new();
    for (i, axes) in equation.terms.iter().enumerate() {
        let (shape, values) = call.reals(i)?;
        operands.push(Operand {
            axes: axes.clone(),
            shape,
            values,
        });
    }
    let all = equation.extents.0.iter().map(|(axis, _)| *axis);
    let summed: Vec<Axis> = all.filter(|axis| !equation.kept.contains(axis)).collect();
    sums(
        call,
        &operands,
        [&equation.kept, &summed],
        &equation.extents,
    )
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
fn implicit_result(terms: &[Vec<Axis>]) -> Vec<Axis> {
    let all = || terms.iter().flatten().copied();
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

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Attribute, Node};
    use campana_kernels::{Isa, ThreadPool};

    use super::*;

    /// Sums of at most a few hundred products of size 1, in float32.
    const MAX_ERROR: f64 = 2e-5;

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| ((i * 7 + seed * 13) as f32 * 0.61).sin());
        Tensor::new(shape.to_vec(), TensorData::F32(values.collect())).unwrap()
    }

    /// Whether matrix products gave the result, which is compared with the plain sums.
    fn is_contracted(equation: &str, shapes: &[&[usize]]) -> bool {
        let attribute = Attribute::String(equation.as_bytes().to_vec());
        let node = Node {
            op_type: "Einsum".into(),
            attributes: [("equation".into(), attribute)].into(),
            ..Node::default()
        };
        let tensors: Vec<Tensor> = shapes
            .iter()
            .enumerate()
            .map(|(i, s)| numbers(s, i))
            .collect();
        let inputs: Vec<&Tensor> = tensors.iter().collect();
        let pool = ThreadPool::serial();
        let call = Call {
            node: &node,
            inputs: inputs.iter().copied().map(Some).collect(),
            opset: 17,
            isa: Isa::detect(),
            pool: &pool,
            max_bytes: None,
            interrupt: None,
        };
        let parsed = Equation::parse(equation, shapes).unwrap();
        let expected = plain_sums(&call, &parsed).unwrap();
        let results = einsum(&call).unwrap();
        assert_eq!(results[0].shape(), parsed.extents.of(&parsed.kept).unwrap());
        let found = super::super::call::floats(&results[0]).unwrap();
        assert_eq!(found.len(), expected.len(), "{equation}");
        for (found, expected) in found.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error <= MAX_ERROR * expected.abs().max(1.0),
                "{equation}: {found} for {expected}"
            );
        }
        let factors = factors(&parsed, &inputs);
        let count = expected.len();
        factors.is_some_and(|factors| {
            let values = contracted(&call, factors, &parsed.kept, count);
            values.unwrap().is_some()
        })
    }

    #[test]
    fn matrix_products_give_the_plain_sums() {
        let cases: [(&str, &[&[usize]]); 20] = [
            ("ij,jk->ik", &[&[9, 17], &[17, 21]]),
            ("ij,jk", &[&[3, 4], &[4, 5]]),
            ("bhid,bhjd->bhij", &[&[2, 3, 9, 8], &[2, 3, 11, 8]]),
            ("bhij,bhjd->bihd", &[&[2, 3, 9, 11], &[2, 3, 11, 8]]),
            ("bqnc,bnchw->bqnhw", &[&[2, 5, 3, 4], &[2, 3, 4, 6, 7]]),
            ("nctkv,kvw->nctw", &[&[2, 3, 4, 3, 5], &[3, 5, 5]]),
            ("...ij,...jk->...ik", &[&[2, 1, 9, 8], &[3, 8, 10]]),
            ("bij,bjk->bki", &[&[1, 9, 8], &[4, 8, 10]]),
            ("i,j->ji", &[&[30], &[40]]),
            ("bi,bi->bi", &[&[4, 6], &[4, 6]]),
            ("bi,bi->b", &[&[4, 600], &[4, 600]]),
            ("bc,bc->", &[&[4, 6], &[4, 6]]),
            ("aij,jkb->ik", &[&[3, 9, 8], &[8, 10, 2]]),
            ("ij,ij->j", &[&[5, 1], &[5, 7]]),
            ("ij,k->ik", &[&[5, 4], &[3]]),
            ("ijk->ki", &[&[3, 4, 5]]),
            ("ijk->", &[&[3, 4, 5]]),
            ("ij,jk,kl->il", &[&[3, 4], &[4, 5], &[5, 6]]),
            ("bi,bij,bj->b", &[&[2, 30], &[2, 30, 20], &[2, 20]]),
            (",ij->ji", &[&[], &[3, 4]]),
        ];
        for (equation, shapes) in cases {
            assert!(is_contracted(equation, shapes), "{equation}");
        }
    }

    #[test]
    fn what_is_no_matrix_product_is_summed_plainly() {
        let cases: [(&str, &[&[usize]]); 5] = [
            ("ii->i", &[&[4, 4]]),
            ("ii", &[&[4, 4]]),
            ("iij,jk->ik", &[&[3, 3, 4], &[4, 5]]),
            ("ij,jk->ik", &[&[3, 0], &[0, 4]]),
            // Outer products before the sum would take more than all operands.
            ("a,b,a,b->", &[&[20], &[30], &[20], &[30]]),
        ];
        for (equation, shapes) in cases {
            assert!(!is_contracted(equation, shapes), "{equation}");
        }
    }
}
