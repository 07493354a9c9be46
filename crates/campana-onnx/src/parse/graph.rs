//! Graphs and nodes.

use super::Parser;
use crate::Result;
use crate::message::MessageId;
use crate::proto::{Graph, Node};
use crate::schema::{graph, node};
use crate::source::Span;

impl Parser<'_> {
    pub(super) fn graph(&mut self, message: MessageId, body: Span) -> Result<Graph> {
        let mut read = Graph {
            name: String::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            sparse_initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            value_info: Vec::new(),
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                graph::NODE => {
                    let node = self.message("node", read.nodes.len(), field, Self::node)?;
                    read.nodes.push(node);
                }
                graph::NAME => read.name = self.string("name", field)?,
                graph::INITIALIZER => {
                    let index = read.initializers.len();
                    let tensor = self.message("initializer", index, field, Self::tensor)?;
                    read.initializers.push(tensor);
                }
                graph::SPARSE_INITIALIZER => {
                    let index = read.sparse_initializers.len();
                    let name = "sparse_initializer";
                    let tensor = self.message(name, index, field, Self::sparse_tensor)?;
                    read.sparse_initializers.push(tensor);
                }
                graph::INPUT => {
                    let value = self.message("input", read.inputs.len(), field, Self::value)?;
                    read.inputs.push(value);
                }
                graph::OUTPUT => {
                    let value = self.message("output", read.outputs.len(), field, Self::value)?;
                    read.outputs.push(value);
                }
                graph::VALUE_INFO => {
                    let index = read.value_info.len();
                    let value = self.message("value_info", index, field, Self::value)?;
                    read.value_info.push(value);
                }
                _ => {}
            }
        }
        Ok(read)
    }

    pub(super) fn node(&mut self, message: MessageId, body: Span) -> Result<Node> {
        let mut read = Node {
            name: String::new(),
            op_type: String::new(),
            domain: String::new(),
            overload: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                node::INPUT => read.inputs.push(self.string("input", field)?),
                node::OUTPUT => read.outputs.push(self.string("output", field)?),
                node::NAME => read.name = self.string("name", field)?,
                node::OP_TYPE => read.op_type = self.string("op_type", field)?,
                node::DOMAIN => read.domain = self.string("domain", field)?,
                node::OVERLOAD => read.overload = self.string("overload", field)?,
                node::ATTRIBUTE => {
                    let index = read.attributes.len();
                    let attribute = self.message("attribute", index, field, Self::attribute)?;
                    read.attributes.push(attribute);
                }
                _ => {}
            }
        }
        Ok(read)
    }
}
