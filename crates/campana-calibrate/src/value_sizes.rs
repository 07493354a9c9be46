//! How much memory the values of a network take on given samples.

use campana_ir::graph::{Dim, Graph};
use campana_ir::network::Network;

use crate::samples::Batches;

/// The graph with inputs of the extents that the first batch has.
pub(crate) fn with_extents_of(graph: &Graph, batches: &Batches) -> Graph {
    let mut graph = graph.clone();
    for (name, tensor) in batches.batch(0) {
        let extents = tensor.shape().iter().map(|&extent| Dim::Fixed(extent));
        if let Some(input) = graph.inputs.iter_mut().find(|input| input.name == name) {
            input.shape = Some(extents.collect());
        }
    }
    graph
}

/// Bytes that each activation takes on the first batch as floats, as far as its
/// shape can be told without a run; nothing where the network cannot be analysed.
pub(crate) fn activation_bytes(graph: &Graph, batches: &Batches) -> Vec<(String, usize)> {
    let graph = with_extents_of(graph, batches);
    let Ok(network) = Network::new(&graph) else {
        return Vec::new();
    };
    let made = graph.nodes.iter().flat_map(|node| &node.outputs);
    let sized = made.filter_map(|name| {
        let shape = network.value(name)?.shape.as_ref()?;
        let extents = shape.iter().map(|dim| match dim {
            Dim::Fixed(extent) => Some(*extent),
            Dim::Symbol(_) => None,
        });
        let bytes = extents
            .into_iter()
            .try_fold(size_of::<f32>(), |bytes, extent| {
                Some(bytes.saturating_mul(extent?))
            })?;
        let is_activation = network.is_activation(name);
        is_activation.then(|| (name.clone(), bytes))
    });
    sized.collect()
}

/// Samples of a batch that take at most `limit` bytes, where those of the first
/// batch take `bytes`; `None` where these do already.
pub(crate) fn fewer_samples(batches: &Batches, bytes: usize, limit: usize) -> Option<usize> {
    (bytes > limit).then(|| (batches.batch_len(0).saturating_mul(limit) / bytes).max(1))
}
