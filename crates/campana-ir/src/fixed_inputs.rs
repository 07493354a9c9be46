//! Inputs of fixed shape, for forms of a model that take no others: a batch that
//! is open becomes one sample.

use campana_tensor::ElementType;

use crate::graph::{Dim, Graph, Value};

/// An input that has no fixed shape of float32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitInput {
    /// Its name.
    pub name: String,
    /// What it has instead.
    pub reason: Unfit,
}

/// What keeps an input from being float32 of a fixed shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is of another type.
    ElementType(ElementType),
    /// It declares no shape.
    NoShape,
    /// It has no elements.
    Empty,
    /// Extents other than a batch are open: the whole shape, as `1 x H x 3`.
    Open(String),
}

impl UnfitInput {
    /// What is wrong, for who `takes` inputs of some kind and, of fixed extents,
    /// `wants` them: "only float32 is taken", "TFLite wants them fixed".
    pub fn message(&self, takes: &str, wants: &str) -> String {
        let what = match &self.reason {
            Unfit::ElementType(other) => format!("is {other}, and {takes}"),
            Unfit::NoShape => "declares no shape; give --shape".to_owned(),
            Unfit::Empty => "has no elements".to_owned(),
            Unfit::Open(extents) => {
                format!("leaves extents open ({extents}), and {wants}; give --shape")
            }
        };
        format!("the input '{}' {what}", self.name)
    }
}

/// The graph with a batch of 1 where the inputs leave theirs open: their first
/// axis, and others of the same name.
///
/// # Errors
///
/// Where another extent is open, or an input is not float32; of the first such
/// input.
pub fn fixed_inputs(graph: &Graph) -> Result<Graph, UnfitInput> {
    let mut graph = graph.clone();
    let batches = graph.inputs.iter().filter_map(|input| {
        let first = input.shape.as_ref()?.first()?;
        Some(first.clone()).filter(|dim| matches!(dim, Dim::Symbol(_)))
    });
    let batches: Vec<Dim> = batches.collect();
    for input in &mut graph.inputs {
        for (axis, dim) in input.shape.iter_mut().flatten().enumerate() {
            let is_named = matches!(dim, Dim::Symbol(name) if !name.is_empty());
            let is_batch = axis == 0 || is_named && batches.contains(dim);
            if is_batch && matches!(dim, Dim::Symbol(_)) {
                *dim = Dim::Fixed(1);
            }
        }
    }
    let first = graph
        .inputs
        .iter()
        .find_map(|input| Some((input, unfit(input)?)));
    match first {
        Some((input, reason)) => Err(UnfitInput {
            name: input.name.clone(),
            reason,
        }),
        None => Ok(graph),
    }
}

fn unfit(input: &Value) -> Option<Unfit> {
    let is_other = |found: &ElementType| *found != ElementType::F32;
    if let Some(other) = input.element_type.filter(is_other) {
        return Some(Unfit::ElementType(other));
    }
    let Some(shape) = &input.shape else {
        return Some(Unfit::NoShape);
    };
    if shape.contains(&Dim::Fixed(0)) {
        return Some(Unfit::Empty);
    }
    let is_open = shape.iter().any(|dim| matches!(dim, Dim::Symbol(_)));
    is_open.then(|| {
        let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
        Unfit::Open(extents.join(" x "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(shape: Option<Vec<Dim>>, element_type: ElementType) -> Graph {
        let value = Value {
            shape,
            element_type: Some(element_type),
            ..Value::named("x")
        };
        Graph {
            inputs: vec![value],
            ..Graph::default()
        }
    }

    fn symbol(name: &str) -> Dim {
        Dim::Symbol(name.to_owned())
    }

    #[test]
    fn open_batches_become_one_wherever_they_stand() {
        let shape = vec![symbol("n"), Dim::Fixed(3), symbol("n")];
        let fixed = fixed_inputs(&graph(Some(shape), ElementType::F32)).unwrap();
        let expected = [1, 3, 1].map(Dim::Fixed).to_vec();
        assert_eq!(fixed.inputs[0].shape, Some(expected));
    }

    #[test]
    fn what_is_unfit_is_said() {
        let reason = |shape, element_type| {
            fixed_inputs(&graph(shape, element_type))
                .unwrap_err()
                .reason
        };
        let open = vec![symbol(""), Dim::Fixed(3), symbol("h"), symbol("")];
        let found = reason(Some(open), ElementType::F32);
        assert_eq!(found, Unfit::Open("1 x 3 x h x ?".to_owned()));
        assert_eq!(reason(None, ElementType::F32), Unfit::NoShape);
        let empty = vec![Dim::Fixed(1), Dim::Fixed(0)];
        assert_eq!(reason(Some(empty), ElementType::F32), Unfit::Empty);
        let integers = reason(Some(vec![]), ElementType::I64);
        assert_eq!(integers, Unfit::ElementType(ElementType::I64));
    }
}
