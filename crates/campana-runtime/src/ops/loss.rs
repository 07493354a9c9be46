//! Losses, as networks in training have them at their end.

use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, one_of};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "NegativeLogLikelihoodLoss" => negative_log_likelihood,
        "SoftmaxCrossEntropyLoss" => cross_entropy,
        _ => return None,
    })
}

/// `-weight[target] input[target]`, reduced over all targets.
fn loss(call: &Call<'_>, scores: &[f64], weights_at: usize) -> Result<Tensor, Fault> {
    let (shape, targets) = (call.input(0)?.shape(), call.input(1)?);
    let numbers = call.optional_ints(1)?.unwrap_or_default();
    if shape.len() < 2 || targets.shape().len() + 1 != shape.len() {
        return Err(Fault::invalid(format!(
            "targets {:?} for scores {shape:?}",
            targets.shape()
        )));
    }
    let weights = call.optional_reals(weights_at)?;
    let (classes, inner) = (shape[1], shape[2..].iter().product::<usize>().max(1));
    let ignored = match call.attribute("ignore_index") {
        Some(_) => Some(call.int("ignore_index", 0)?),
        None => None,
    };
    let (mut losses, mut total) = (Vec::with_capacity(numbers.len()), 0.0);
    for (i, &target) in numbers.iter().enumerate() {
        if Some(target) == ignored {
            losses.push(0.0);
            continue;
        }
        let class = usize::try_from(target)
            .ok()
            .filter(|&class| class < classes)
            .ok_or_else(|| Fault::invalid(format!("target {target} of {classes} classes")))?;
        let weight = match &weights {
            Some(weights) => *weights
                .get(class)
                .ok_or_else(|| Fault::invalid("too few weights"))?,
            None => 1.0,
        };
        total += weight;
        losses.push(-weight * scores[(i / inner * classes + class) * inner + i % inner]);
    }
    let (shape, values) = match call.string("reduction", "mean")? {
        "none" => (targets.shape().to_vec(), losses),
        "sum" => (vec![], vec![losses.iter().sum()]),
        _ => (vec![], vec![losses.iter().sum::<f64>() / total]),
    };
    let mut result = one_of(call.kind(0)?, &shape, values)?;
    result
        .pop()
        .ok_or_else(|| Fault::invalid("a loss without a value"))
}

fn negative_log_likelihood(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (_, scores) = call.reals(0)?;
    Ok(vec![loss(call, &scores, 2)?])
}

fn cross_entropy(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, mut scores) = call.reals(0)?;
    let classes = shape.get(1).copied().unwrap_or(0);
    let inner = shape.iter().skip(2).product::<usize>().max(1);
    for image in scores.chunks_exact_mut((classes * inner).max(1)) {
        for i in 0..inner {
            let line = || (0..classes).map(|c| c * inner + i);
            let max = line().map(|at| image[at]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = line().map(|at| (image[at] - max).exp()).sum();
            line().for_each(|at| image[at] -= max + sum.ln());
        }
    }
    let mut outputs = vec![loss(call, &scores, 2)?];
    if call.node.outputs.len() > 1 {
        outputs.extend(one_of(call.kind(0)?, shape, scores)?);
    }
    Ok(outputs)
}
