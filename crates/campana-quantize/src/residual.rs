//! How much of a sum's energy each branch brings, by what normalizations
//! remember.
//!
//! The error of a layer in a residual block disturbs the network by its share
//! of the sum that the block's outputs are added to: a branch that brings a
//! tenth of the energy passes a tenth of its relative error on. A batch
//! normalization's output has the variance of its squared scale, whatever its
//! input, and branches are nearly uncorrelated; so no data is needed.

use std::collections::{HashMap, HashSet};

use campana_onnx::{Graph, Model, Node};

/// For weights whose layer leads to one branch of a sum alone, by their names:
/// the branch's share of the energy of the sum, above 0 and at most 1. Sums of
/// sums are one. Branches that do not end in a normalization tell nothing.
pub fn shares_in_sums(model: &Model) -> HashMap<String, f64> {
    let graph = &model.graph;
    let variances = normalized_variances(model);
    let shares = shares_of_branches(graph, &variances);
    // The branch that each value leads to, from the last node to the first.
    let mut branches: HashMap<&str, Option<&str>> = HashMap::new();
    let mut found = HashMap::new();
    for node in graph.nodes.iter().rev() {
        let own = |output: &&String| shares.contains_key(output.as_str());
        let branch = match node.outputs.iter().find(own) {
            Some(output) => Some(output.as_str()),
            None => node
                .outputs
                .first()
                .and_then(|output| branches.get(output.as_str()).copied().flatten()),
        };
        for input in &node.inputs {
            branches
                .entry(input)
                .and_modify(|known| *known = known.filter(|known| Some(*known) == branch))
                .or_insert(branch);
            if let Some(branch) = branch {
                found.insert(input.clone(), shares[branch]);
            }
        }
    }
    // What several layers read, or both a branch and others.
    found.retain(|name, _| branches.get(name.as_str()).is_some_and(Option::is_some));
    found
}

/// Sums of the variances of the channels of normalizations' outputs, by these.
fn normalized_variances(model: &Model) -> HashMap<&str, f64> {
    let initializers = model.graph.initializers_by_name();
    let variance = |node: &Node| -> Option<f64> {
        let scale = initializers.get(&**node.inputs.get(1)?)?;
        let scale = model.read_f32(scale).ok()?;
        Some(scale.iter().map(|&scale| f64::from(scale).powi(2)).sum())
    };
    model
        .graph
        .nodes
        .iter()
        .filter(|node| node.op_type == "BatchNormalization")
        .filter_map(|node| Some((&**node.outputs.first()?, variance(node)?)))
        .collect()
}

/// The share of each summand of a sum whose summands are all known.
fn shares_of_branches<'g>(
    graph: &'g Graph,
    variances: &HashMap<&'g str, f64>,
) -> HashMap<&'g str, f64> {
    let sums = graph.nodes.iter().filter_map(|node| {
        let ("Add", [a, b], Some(sum)) = (&*node.op_type, &*node.inputs, node.outputs.first())
        else {
            return None;
        };
        Some((sum.as_str(), [a.as_str(), b.as_str()]))
    });
    let sums: Vec<(&str, [&str; 2])> = sums.collect();
    let summed: HashSet<&str> = sums.iter().flat_map(|(_, summands)| *summands).collect();
    // Of sums, all of whose branches are normalized; what sums read comes before them.
    let mut energies: HashMap<&str, Option<f64>> = HashMap::new();
    for &(sum, summands) in &sums {
        let [a, b] = summands.map(|summand| {
            let of_sum = energies.get(summand).copied();
            of_sum.unwrap_or_else(|| variances.get(summand).copied())
        });
        energies.insert(sum, a.zip(b).map(|(a, b)| a + b));
    }
    // Of the outermost sum that a value is part of.
    let mut totals: HashMap<&str, f64> = HashMap::new();
    for (sum, summands) in sums.iter().rev() {
        let total = match summed.contains(sum) {
            true => totals.get(sum).copied(),
            false => energies[sum],
        };
        for summand in summands {
            if let Some(total) = total.filter(|total| total.is_finite()) {
                totals.entry(summand).or_insert(total);
            }
        }
    }
    totals
        .into_iter()
        .filter(|(summand, _)| !energies.contains_key(summand))
        .map(|(branch, total)| (branch, variances[branch] / total))
        .filter(|&(_, share)| share > 0.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_onnx::{Content, NewNode, NewTensor, Source, opset_import, schema};
    use campana_tensor::ElementType;

    /// Normalizations of two channels with these scales, by name, and nodes.
    fn model(scales: &[(&str, [f32; 2])], nodes: &[(&str, &[&str], &str)]) -> Model {
        let mut graph = Content::default().string(schema::graph::NAME, "net");
        for &(op_type, inputs, output) in nodes {
            let node = NewNode::new(op_type, inputs.iter().copied(), [output]);
            graph = graph.message(schema::graph::NODE, node);
        }
        for (name, values) in scales {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let tensor = NewTensor::raw(name, &[2], ElementType::F32, bytes);
            graph = graph.message(schema::graph::INITIALIZER, tensor);
        }
        let bytes = Content::default()
            .int(schema::model::IR_VERSION, 8)
            .message(schema::model::GRAPH, graph)
            .message(schema::model::OPSET_IMPORT, opset_import("", 13))
            .into_bytes()
            .unwrap();
        Model::parse(Source::from_bytes(bytes)).unwrap()
    }

    /// Two blocks that add to a third one's outputs, and a layer behind them.
    const NODES: [(&str, &[&str], &str); 12] = [
        ("Conv", &["x", "w0"], "c0"),
        ("BatchNormalization", &["c0", "g0", "o", "m", "v"], "n0"),
        ("Conv", &["n0", "w1"], "c1"),
        ("Relu", &["c1"], "r1"),
        ("Conv", &["r1", "w2"], "c2"),
        ("BatchNormalization", &["c2", "g2", "o", "m", "v"], "n2"),
        ("Add", &["n0", "n2"], "s2"),
        ("Conv", &["s2", "w3"], "c3"),
        ("BatchNormalization", &["c3", "g3", "o", "m", "v"], "n3"),
        ("Add", &["n3", "s2"], "s3"),
        ("Conv", &["s3", "w4"], "c4"),
        ("Relu", &["c4"], "y"),
    ];

    #[test]
    fn branches_share_a_sum_by_the_squares_of_their_scales() {
        let scales = [("g0", [1.0, 2.0]), ("g2", [-1.0, 1.0]), ("g3", [3.0, 2.0])];
        let shares = shares_in_sums(&model(&scales, &NODES));
        for (name, expected) in [("w0", 0.25), ("w1", 0.1), ("w2", 0.1), ("w3", 0.65)] {
            assert!((shares[name] - expected).abs() < 1e-9, "{name}: {shares:?}");
        }
        assert!(!shares.contains_key("w4"), "it is no branch: {shares:?}");
    }

    #[test]
    fn sums_of_what_is_not_normalized_have_no_shares() {
        let mut nodes = NODES;
        nodes[5] = ("Relu", &["c2"], "n2");
        let scales = [("g0", [1.0, 2.0]), ("g3", [3.0, 2.0])];
        assert!(shares_in_sums(&model(&scales, &nodes)).is_empty());
    }

    #[test]
    fn sums_that_are_added_to_one_another_are_walked_once() {
        let names: Vec<String> = (0..200).map(|i| format!("s{i}")).collect();
        let inputs: Vec<[&str; 2]> = (0..198).map(|i| [&*names[i], &*names[i + 1]]).collect();
        let mut nodes = vec![
            ("BatchNormalization", &["x", "g0", "o", "m", "v"][..], "s0"),
            ("BatchNormalization", &["x", "g1", "o", "m", "v"][..], "s1"),
        ];
        for (inputs, output) in inputs.iter().zip(&names[2..]) {
            nodes.push(("Add", inputs, output));
        }
        let scales = [("g0", [1.0, 0.0]), ("g1", [1.0, 0.0])];
        let shares = shares_in_sums(&model(&scales, &nodes));
        assert!(shares["g0"] > 0.0 && shares["g1"] < 1.0, "{shares:?}");
    }

    #[test]
    fn weights_of_several_branches_have_no_share() {
        let mut nodes = NODES;
        nodes[7] = ("Conv", &["s2", "w2"], "c3");
        let scales = [("g0", [1.0, 2.0]), ("g2", [-1.0, 1.0]), ("g3", [3.0, 2.0])];
        let shares = shares_in_sums(&model(&scales, &nodes));
        assert!(
            shares.contains_key("w1") && !shares.contains_key("w2"),
            "{shares:?}"
        );
    }
}
