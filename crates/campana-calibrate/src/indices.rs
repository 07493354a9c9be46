//! Integer inputs that are indices into a table of the network, as tokens are
//! into embeddings: the table's rows tell their range.

use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_tensor::ElementType;

/// Rows of the smallest constant that an integer input, as it is or moved and
/// cast, gathers from; `None` where something else reads its values, too, or
/// nothing does.
fn table_rows(network: &Network<'_>, input: &str) -> Option<usize> {
    let mut fewest = None;
    let mut names = vec![input];
    while let Some(name) = names.pop() {
        for usage in network.uses(name) {
            let node = network.node(usage.node);
            match (network.op(usage.node), usage.input) {
                (Op::Gather { axis }, Some(1)) => {
                    let shape = network.constant_shape(&node.inputs[0])?;
                    let axis = usize::try_from(*axis)
                        .ok()
                        .or_else(|| shape.len().checked_sub(axis.unsigned_abs() as usize))?;
                    let rows = *shape.get(axis).filter(|&&rows| rows > 0)?;
                    fewest = Some(fewest.map_or(rows, |fewest: usize| fewest.min(rows)));
                }
                (Op::Shape { .. }, Some(0)) => {}
                (Op::Cast(to), Some(0)) if is_index(*to) => names.push(&node.outputs[0]),
                (op, Some(0)) if op.moves_elements() && node.outputs.len() == 1 => {
                    names.push(&node.outputs[0]);
                }
                _ => return None,
            }
        }
    }
    fewest
}

fn is_index(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::I64 | ElementType::I32)
}

/// The inputs that are indices, each with the number of rows that they select
/// from.
pub(crate) fn index_inputs<'g>(
    graph: &'g Graph,
    network: &Network<'g>,
) -> impl Iterator<Item = (&'g str, usize)> {
    let integers = graph
        .inputs
        .iter()
        .filter(|input| input.element_type.is_some_and(is_index));
    integers.filter_map(|input| Some((input.name.as_str(), table_rows(network, &input.name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Attribute, Node, Value};
    use campana_tensor::{Tensor, TensorData};

    /// Tokens gather from a table of 7 rows; `more` reads them, too.
    fn graph(more: Option<Node>) -> Graph {
        let mut cast = Node::new("Cast", &["tokens"], &["cast"]);
        cast.attributes.insert("to".into(), Attribute::Int(7));
        let table = Tensor::new(vec![7, 2], TensorData::F32(vec![0.5; 14])).unwrap();
        let nodes = [cast, Node::new("Gather", &["table", "cast"], &["y"])];
        Graph {
            inputs: vec![Value {
                element_type: Some(ElementType::I32),
                ..Value::named("tokens")
            }],
            outputs: vec![Value::named("y")],
            nodes: nodes.into_iter().chain(more).collect(),
            constants: [("table".to_owned(), table)].into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    fn found(graph: &Graph) -> Vec<(&str, usize)> {
        index_inputs(graph, &Network::new(graph).unwrap()).collect()
    }

    #[test]
    fn tokens_are_indices_into_their_table() {
        assert_eq!(found(&graph(None)), [("tokens", 7)]);
    }

    #[test]
    fn the_shape_of_indices_may_be_asked_for() {
        let shape = Node::new("Shape", &["tokens"], &["z"]);
        assert_eq!(found(&graph(Some(shape))), [("tokens", 7)]);
    }

    #[test]
    fn what_is_computed_with_is_no_index() {
        let sum = Node::new("Add", &["cast", "cast"], &["z"]);
        assert_eq!(found(&graph(Some(sum))), []);
    }
}
