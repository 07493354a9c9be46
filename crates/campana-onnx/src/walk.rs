//! All graphs, names and tensors of a model, wherever they are.

use std::collections::HashSet;

use crate::data::name_tensor;
use crate::proto::{Attribute, AttributeValue, Graph, Node, SparseTensor, TensorProto};
use crate::{Error, ErrorKind, Model, Result};

impl Model {
    /// The model's graph and all graphs inside of its nodes, outer ones first.
    pub fn graphs(&self) -> Vec<&Graph> {
        let mut found = vec![&self.graph];
        let mut next = 0;
        while let Some(&graph) = found.get(next) {
            next += 1;
            for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
                match &attribute.value {
                    AttributeValue::Graph(graph) => found.push(graph),
                    AttributeValue::Graphs(graphs) => found.extend(graphs),
                    _ => {}
                }
            }
        }
        found
    }

    /// The names of all values of its [`graphs`](Self::graphs): inputs, constants
    /// and what nodes make.
    pub fn value_names(&self) -> HashSet<&str> {
        let names = self.graphs().into_iter().flat_map(|graph| {
            let tensors = graph.initializers.iter().map(|tensor| tensor.name.as_str());
            let sparse = graph.sparse_initializers.iter().map(SparseTensor::name);
            let inputs = graph.inputs.iter().map(|input| input.name.as_str());
            let made = graph.nodes.iter().flat_map(|node| &node.outputs);
            let made = made.map(String::as_str);
            tensors.chain(sparse).chain(inputs).chain(made)
        });
        names.collect()
    }

    /// Every tensor of the model in the file's order: initializers and
    /// attributes of the graph, of nested graphs, of functions and of training.
    pub fn tensors(&self) -> Vec<&TensorProto> {
        let mut found = Vec::new();
        in_graph(&self.graph, &mut found);
        for info in &self.training_info {
            let graphs = info.initialization.iter().chain(&info.algorithm);
            graphs.for_each(|graph| in_graph(graph, &mut found));
        }
        for function in &self.functions {
            in_attributes(&function.attribute_defaults, &mut found);
            in_nodes(&function.nodes, &mut found);
        }
        found
    }

    /// Copies the bytes of a tensor's external data to `out`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ExternalData`] where there are none or they cannot be
    /// found, [`ErrorKind::Io`] where reading or writing fails.
    pub fn copy_external(&self, tensor: &TensorProto, out: &mut dyn std::io::Write) -> Result<()> {
        let (source, span) = self.external_span(tensor)?;
        source.copy_to(span, out)
    }

    /// Number of bytes of a tensor's external data.
    ///
    /// # Errors
    ///
    /// As [`copy_external`](Self::copy_external).
    pub fn external_len(&self, tensor: &TensorProto) -> Result<u64> {
        Ok(self.external_span(tensor)?.1.len())
    }

    fn external_span(&self, tensor: &TensorProto) -> Result<(crate::Source, crate::Span)> {
        let crate::DataLocation::External(external) = &tensor.data else {
            let message = format!("tensor {:?} has no external data", tensor.name);
            return Err(Error::new(ErrorKind::ExternalData, message));
        };
        let len = tensor
            .element_type
            .len_bytes(tensor.count()?)
            .map(|len| len as u64);
        let len = len.or(external.length).ok_or_else(|| {
            let message = format!(
                "tensor {:?} of type {} is in {:?} without a length",
                tensor.name, tensor.element_type, external.location
            );
            Error::new(ErrorKind::ExternalData, message)
        })?;
        self.external
            .find(external, len)
            .map_err(|error| name_tensor(tensor, error))
    }
}

fn in_graph<'m>(graph: &'m Graph, found: &mut Vec<&'m TensorProto>) {
    found.extend(&graph.initializers);
    graph
        .sparse_initializers
        .iter()
        .for_each(|sparse| in_sparse(sparse, found));
    in_nodes(&graph.nodes, found);
}

fn in_sparse<'m>(sparse: &'m SparseTensor, found: &mut Vec<&'m TensorProto>) {
    found.extend(sparse.values.iter().chain(&sparse.indices));
}

fn in_nodes<'m>(nodes: &'m [Node], found: &mut Vec<&'m TensorProto>) {
    nodes
        .iter()
        .for_each(|node| in_attributes(&node.attributes, found));
}

fn in_attributes<'m>(attributes: &'m [Attribute], found: &mut Vec<&'m TensorProto>) {
    for attribute in attributes {
        match &attribute.value {
            AttributeValue::Tensor(tensor) => found.push(tensor),
            AttributeValue::Tensors(tensors) => found.extend(tensors),
            AttributeValue::SparseTensor(sparse) => in_sparse(sparse, found),
            AttributeValue::SparseTensors(all) => {
                all.iter().for_each(|sparse| in_sparse(sparse, found));
            }
            AttributeValue::Graph(graph) => in_graph(graph, found),
            AttributeValue::Graphs(graphs) => {
                graphs.iter().for_each(|graph| in_graph(graph, found));
            }
            _ => {}
        }
    }
}
