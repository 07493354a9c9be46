//! Which activations of a network are quantized to 8 bits.
//!
//! Quantized are the inputs of layers, of pools, and of residual sums that these
//! read or whose operand a layer makes, except
//! what a layer hands to the bias, normalization, clamp or (where engines fuse
//! it) residual sum behind it: these are computed on the layer's accumulators.
//! What only moves elements (max pools, slices, transpositions, views) keeps the parameters of
//! its input. For engines of the QDQ form, which compute a layer on integers only between
//! two quantized values, the outputs of layers are quantized whoever reads them, but
//! for the answer; what nothing but a concatenation reads by the parameters of its result
//! ([`concatenated_activations`]). Layers whose weights stay floats count as none. Integer values, booleans and values of parameters alone are never
//! quantized.

use std::collections::{HashMap, HashSet};

use super::{Network, Use};
use crate::op::{Op, Pool, Unary};

/// Where the sum behind a residual block is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualSums {
    /// On the accumulators of the later of its two layers, as campana's engine does.
    Fused,
    /// On two quantized operands, as engines of the QDQ form do.
    Separate,
    /// As `Separate`, by engines that compute no layer on integers whose output
    /// is float: the outputs of layers are quantized wherever they go, but for
    /// those that no other layer reads in the end. These are the answer, and
    /// rounding would make its greatest values alike.
    SeparateForIntegerLayers,
}

/// Names of the activations to be quantized, in the graph's order.
pub fn quantized_activations(network: &Network<'_>, sums: ResidualSums) -> Vec<String> {
    activations(network, sums, true)
}

/// Those of them that are outputs of layers and that nothing reads in 8 bits: quantized
/// only so that engines of the QDQ form compute the layers on integers.
pub fn quantized_for_speed(network: &Network<'_>, sums: ResidualSums) -> HashSet<String> {
    let others = activations(network, sums, false);
    let all = activations(network, sums, true).into_iter();
    all.filter(|name| !others.contains(name)).collect()
}

/// What is quantized, with the outputs of layers `for_speed` or without.
fn activations(network: &Network<'_>, sums: ResidualSums, for_speed: bool) -> Vec<String> {
    let graph = network.graph();
    let inputs = graph.inputs.iter().map(|value| (value.name.as_str(), None));
    let made = graph.nodes.iter().enumerate().flat_map(|(i, node)| {
        let outputs = node.outputs.iter().enumerate();
        outputs.map(move |(output, name)| (name.as_str(), Some((i, output))))
    });
    let read_as_codes = values_read_as_codes(network);
    let mut found = Vec::new();
    let mut quantized: HashSet<&str> = HashSet::new();
    for (name, producer) in inputs.chain(made) {
        let is_moved = producer.is_some_and(|(node, output)| {
            let input = network.node(node).inputs.first();
            output < network.op(node).moved_outputs()
                && input.is_some_and(|input| quantized.contains(input.as_str()))
        });
        if is_moved {
            quantized.insert(name);
            continue;
        }
        // What a layer makes is computed on integers where it becomes codes, whoever
        // reads what is made of these, but where that is the answer.
        let is_passed_result = || {
            let mut uses = network.uses(name).iter();
            !network.is_output(name)
                && uses.any(|usage| !passed(network, *usage).is_empty())
                && is_result_of_layer(network, name, &quantized)
                && reaches_layer(network, name)
        };
        let is_read_as_codes = read_as_codes.contains(name) || is_passed_result();
        let is_result = match sums {
            ResidualSums::Fused => false,
            ResidualSums::Separate => {
                !network.is_output(name)
                    && is_result_of_layer(network, name, &quantized)
                    && (is_before_activation(network, name)
                        || for_speed
                            && !is_rounded_with_concat(network, name, &read_as_codes)
                            && reaches_layer(network, name))
            }
            ResidualSums::SeparateForIntegerLayers => {
                is_result_of_layer(network, name, &quantized) && reaches_layer(network, name)
            }
        };
        if network.is_activation(name)
            && (is_read_as_codes || is_result)
            && !is_in_epilogue(network, name, sums)
            && !joins_extremum_of_floats(network, name, &quantized)
        {
            quantized.insert(name);
            found.push(name.to_owned());
        }
    }
    found
}

/// The values that an operator reads in 8 bits, or makes codes of for one that does.
fn values_read_as_codes<'g>(network: &Network<'g>) -> HashSet<&'g str> {
    let graph = network.graph();
    let made = graph.nodes.iter().rev().flat_map(|node| &node.outputs);
    let inputs = graph.inputs.iter().map(|input| &input.name);
    let mut found = HashSet::new();
    // Readers come before what they read.
    for name in made.chain(inputs) {
        let is_read = network.uses(name).iter().any(|&usage| {
            let is_codes = |passed: &String| found.contains(passed.as_str());
            reads_codes(network, usage) || passed(network, usage).iter().any(is_codes)
        });
        if is_read && !network.is_output(name) {
            found.insert(name.as_str());
        }
    }
    found
}

/// What an operator makes that has codes for its result where it has them for the
/// value: moved elements, and sums of activations, clamped or not.
fn passed<'g>(network: &Network<'g>, usage: Use) -> &'g [String] {
    let results = |node: usize, len: usize| {
        let outputs = network.node(node).outputs.as_slice();
        &outputs[..len.min(outputs.len())]
    };
    if usage.input.is_some() && network.summands(usage.node).is_some() {
        let result = results(usage.node, 1).first();
        let reader = result.and_then(|result| network.sole_use(result));
        let clamp = reader.filter(|(reader, _)| network.is_clamp(*reader));
        return results(clamp.map_or(usage.node, |(clamp, _)| clamp), 1);
    }
    match usage.input {
        Some(0) => results(usage.node, network.op(usage.node).moved_outputs()),
        _ => &[],
    }
}

/// Whether an operator reads the value in 8 bits.
fn reads_codes(network: &Network<'_>, usage: Use) -> bool {
    match (network.op(usage.node), usage.input) {
        (Op::Conv(_) | Op::Gemm(_) | Op::MatMul, Some(0)) => {
            network.layer(usage.node).is_some() && !network.has_float_weights(usage.node)
        }
        (Op::AveragePool(pool), Some(0)) => has_integer_form(pool),
        (Op::GlobalAveragePool, Some(0)) => true,
        _ => false,
    }
}

/// Whether an activation function (Sigmoid, HardSwish) reads what a layer makes:
/// engines of the QDQ form compute the layer on integers only where its output is
/// quantized too.
fn is_before_activation(network: &Network<'_>, name: &str) -> bool {
    let is_function = |usage: &Use| {
        matches!(
            (network.op(usage.node), usage.input),
            (Op::Unary(Unary::Other), Some(0))
        )
    };
    network.uses(name).iter().any(is_function) || is_spelled_out(network, name)
}

/// Whether nothing but a concatenation reads a value whose result is rounded: the value
/// then is rounded [as this is](concatenated_activations).
fn is_rounded_with_concat(
    network: &Network<'_>,
    name: &str,
    read_as_codes: &HashSet<&str>,
) -> bool {
    let mut result = sole_concat(network, name);
    while let Some(name) = result.filter(|name| !read_as_codes.contains(name)) {
        result = sole_concat(network, name);
    }
    result.is_some()
}

/// The result of the concatenation that alone reads a value.
fn sole_concat<'g>(network: &Network<'g>, name: &str) -> Option<&'g str> {
    let (reader, _) = network.sole_use(name)?;
    let is_concat = matches!(network.op(reader), Op::Concat { .. });
    is_concat.then(|| network.node(reader).outputs[0].as_str())
}

/// Activations that nothing but a concatenation reads whose result is rounded, each
/// with this result, in the graph's order: rounding them by its parameters instead
/// makes the same values, and lets engines of the QDQ form concatenate codes and
/// compute on integers the layers before. `is_rounded` values have parameters of
/// their own.
pub fn concatenated_activations<'g>(
    network: &Network<'g>,
    is_rounded: impl Fn(&str) -> bool,
) -> Vec<[&'g str; 2]> {
    let nodes = 0..network.graph().nodes.len();
    let mut results: HashMap<&str, &str> = HashMap::new();
    let mut found = Vec::new();
    for node in nodes.rev() {
        let Op::Concat { .. } = network.op(node) else {
            continue;
        };
        let inputs = &network.node(node).inputs;
        let own = network.node(node).outputs[0].as_str();
        let result = match is_rounded(own) {
            true => Some(own),
            false => results.get(own).copied(),
        };
        let Some(result) = result else { continue };
        for input in inputs.iter().rev() {
            let is_moved = network.producer(input).is_some_and(|maker| {
                let from = network.node(maker).inputs.first();
                network.op(maker).moves_elements() && from.is_some_and(|from| is_rounded(from))
            });
            if network.sole_use(input).is_some()
                && network.is_activation(input)
                && !is_rounded(input)
                && !is_moved
            {
                results.insert(input, result);
                found.push([input.as_str(), result]);
            }
        }
    }
    found.reverse();
    found
}

/// Operators that an activation function is spelled with, at most.
const MAX_SPELLED: usize = 8;

/// Whether what reads a value is an activation function that is spelled with
/// simpler operators, such as HardSwish as `x * clip(x + 3, 0, 6) / 6`: operators on
/// single elements of the value alone, a clamp or a product of two among them.
fn is_spelled_out(network: &Network<'_>, value: &str) -> bool {
    let mut derived = HashSet::from([value]);
    let mut waiting = vec![value];
    let mut steps = 0;
    while let Some(name) = waiting.pop().filter(|_| steps < MAX_SPELLED) {
        steps += 1;
        for usage in network.uses(name) {
            let node = network.node(usage.node);
            let operands = || node.inputs.iter().map(String::as_str);
            let is_of_value = operands().all(|name| {
                name.is_empty() || derived.contains(name) || is_single_number(network, name)
            });
            if !is_of_value || !network.op(usage.node).is_elementwise() {
                continue;
            }
            let is_product = operands().filter(|name| derived.contains(name)).count() > 1;
            if is_product || (name != value && network.is_clamp(usage.node)) {
                return true;
            }
            let output = node.outputs.first().map(String::as_str);
            waiting.extend(output.filter(|output| derived.insert(output)));
        }
    }
    false
}

fn is_single_number(network: &Network<'_>, name: &str) -> bool {
    let shape = network.constant_shape(name);
    shape.is_some_and(|shape| shape.iter().product::<usize>() == 1)
}

/// Whether a value is what a layer with quantized input makes, with all that is
/// computed on its accumulators.
fn is_result_of_layer(network: &Network<'_>, name: &str, quantized: &HashSet<&str>) -> bool {
    let clamped = network.producer(name).filter(|&at| network.is_clamp(at));
    let before = clamped.and_then(|at| network.node(at).inputs.first());
    let layer = match before {
        Some(before) if network.sole_use(before).is_some() => network.layer_of(before),
        _ => network.layer_of(name),
    };
    layer.is_some_and(|layer| {
        quantized.contains(layer.input) && !network.has_float_weights(layer.node)
    })
}

/// Whether a value joins greatest or least values of what is not quantized to others:
/// OpenVINO rounds before these what the pair behind the concatenation rounds, wrongly.
fn joins_extremum_of_floats(network: &Network<'_>, name: &str, quantized: &HashSet<&str>) -> bool {
    let producer = network.producer(name);
    let concat = producer.filter(|&at| matches!(network.op(at), Op::Concat { .. }));
    let makers = concat.into_iter().flat_map(|at| &network.node(at).inputs);
    let mut makers = makers.filter_map(|input| network.producer(input));
    makers.any(|maker| {
        let from = network.node(maker).inputs.first();
        network.op(maker).is_extremum() && from.is_some_and(|from| !quantized.contains(&**from))
    })
}

/// Whether a layer reads what becomes of a value.
fn reaches_layer(network: &Network<'_>, name: &str) -> bool {
    let mut waiting = vec![name];
    let mut seen = HashSet::new();
    while let Some(name) = waiting.pop() {
        for usage in network.uses(name).iter().map(|usage| usage.node) {
            if network.layer(usage).is_some() {
                return true;
            }
            if seen.insert(usage) {
                waiting.extend(network.node(usage).outputs.iter().map(String::as_str));
            }
        }
    }
    false
}

/// The integer average pools of runtimes have no dilations.
fn has_integer_form(pool: &Pool) -> bool {
    !pool.window.is_dilated()
}

/// Whether a value stays in the accumulators of what makes it.
fn is_in_epilogue(network: &Network<'_>, name: &str, sums: ResidualSums) -> bool {
    let Some((reader, input)) = network.sole_use(name) else {
        return false;
    };
    let own = network.layer_of(name);
    match network.op(reader) {
        Op::BatchNormalization(_) => input == 0 && own.is_some(),
        _ if network.is_clamp(reader) => {
            let producer = network.producer(name);
            own.is_some() || producer.is_some_and(|node| network.summands(node).is_some())
        }
        Op::Binary(_) => own.is_some_and(|own| {
            if network
                .bias(&own)
                .is_some_and(|bias| bias.sum == Some(reader))
            {
                return true;
            }
            let Some(operands) = network.summands(reader) else {
                return false;
            };
            // Of two layers the later one takes the sum into its epilogue.
            let other = operands[1 - input];
            let rival = network
                .layer_of(other)
                .filter(|rival| !rival.is_depthwise && network.sole_use(other).is_some());
            sums == ResidualSums::Fused
                && !own.is_depthwise
                && rival.is_none_or(|rival| own.node > rival.node)
        }),
        _ => false,
    }
}
