//! What follows each layer of a network: its bias, wherever that is added, and
//! its normalization.

use std::collections::HashMap;

use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_quantize::{Error, ErrorKind};

/// What follows a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epilogue {
    /// The node that adds the bias (the layer itself, or a sum), and which of
    /// its inputs the bias is.
    pub(super) bias: Option<(usize, usize)>,
    /// The layer's output with its bias.
    pub(super) output: String,
    /// The batch normalization behind it.
    pub(super) normalization: Option<usize>,
    /// The axis of the channels; counted from the end where negative.
    pub(super) channel_axis: i64,
}

/// What follows each layer of a graph, by the layer's output.
pub(super) fn epilogues(graph: &Graph) -> Result<HashMap<String, Epilogue>, Error> {
    let network = Network::new(graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })?;
    let layers = network.products().map(|layer| {
        let bias = network.bias(&layer).and_then(|bias| {
            let node = bias.sum.unwrap_or(layer.node);
            let inputs = &network.node(node).inputs;
            Some((node, inputs.iter().rposition(|input| input == bias.name)?))
        });
        let epilogue = Epilogue {
            bias,
            output: network.biased_output(&layer).to_owned(),
            normalization: network.normalization(&layer),
            channel_axis: layer.channel_axis,
        };
        (layer.output.to_owned(), epilogue)
    });
    Ok(layers.collect())
}
