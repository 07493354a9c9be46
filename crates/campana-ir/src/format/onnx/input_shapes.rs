//! Shapes of inputs that the user states where the model leaves them open.

use std::str::FromStr;

use campana_onnx::{Content, Edits, Error, ErrorKind, Model, NewValueInfo, schema};
use campana_tensor::ElementType;

use crate::graph::{Dim, Value};

/// The shape of one input, as text `[NAME=]EXTENTS`: `1x3x224x224`,
/// `state=2,1,128`, `N,3,?,?`; a letter or `?` leaves an extent open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// The input's name; `None` for the only one.
    pub input: Option<String>,
    /// The extents, outermost first.
    pub dims: Vec<Dim>,
}

impl FromStr for InputShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (input, extents) = match text.rsplit_once('=') {
            Some((name, extents)) => (Some(name.to_owned()), extents),
            None => (None, text),
        };
        let dim = |extent: &str| match extent.trim() {
            "?" => Ok(Dim::Symbol(String::new())),
            symbol if symbol.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                Ok(Dim::Symbol(symbol.to_owned()))
            }
            extent => match extent.parse::<usize>() {
                Ok(extent @ 1..) => Ok(Dim::Fixed(extent)),
                _ => Err(format!(
                    "'{extent}' is no extent: write [NAME=]1x3x224x224, with N or ? for one that stays open"
                )),
            },
        };
        let dims: Result<Vec<Dim>, String> = match extents.contains(',') {
            true => extents.split(',').map(dim).collect(),
            false => extents.split('x').map(dim).collect(),
        };
        Ok(Self { input, dims: dims? })
    }
}

/// As it is read.
impl std::fmt::Display for InputShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(input) = &self.input {
            write!(f, "{input}=")?;
        }
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        f.write_str(&dims.join(","))
    }
}

/// Gives inputs the shapes that are stated of them, and other inputs the extents
/// of symbols that they share with these; `true` at those that got some.
///
/// # Errors
///
/// A sentence, where a shape names no input, several inputs could be meant, or
/// an input declares a fixed extent that contradicts it.
pub fn state_shapes(inputs: &mut [Value], shapes: &[InputShape]) -> Result<Vec<bool>, String> {
    let mut stated = vec![false; inputs.len()];
    for shape in shapes {
        let at = find(inputs, shape)?;
        agree(&inputs[at], &shape.dims)?;
        let own = inputs[at].shape.replace(shape.dims.clone());
        stated[at] = true;
        for (symbol, extent) in own.iter().flatten().zip(&shape.dims) {
            for (other, input) in inputs.iter_mut().enumerate() {
                stated[other] |= replace(input, symbol, extent);
            }
        }
    }
    Ok(stated)
}

/// Puts an extent in place of a named symbol; whether the input has it.
fn replace(input: &mut Value, symbol: &Dim, extent: &Dim) -> bool {
    let is_named = matches!(symbol, Dim::Symbol(name) if !name.is_empty());
    let own = input
        .shape
        .iter_mut()
        .flatten()
        .filter(|dim| is_named && *dim == symbol);
    own.map(|dim| *dim = extent.clone()).count() > 0
}

/// The model with these shapes in place of those that its inputs declare.
///
/// # Errors
///
/// As [`state_shapes`], and where the model cannot be edited.
pub fn with_input_shapes(model: Model, shapes: &[InputShape]) -> Result<Model, Error> {
    let mut inputs = super::inputs(&model);
    let stated = state_shapes(&mut inputs, shapes)
        .map_err(|message| Error::new(ErrorKind::Unsupported, message))?;
    if !stated.contains(&true) {
        return Ok(model);
    }
    let mut edits = Edits::new(&model);
    for (input, _) in inputs.iter().zip(stated).filter(|(_, stated)| *stated) {
        let declared = model.graph.inputs.iter().find(|own| own.name == input.name);
        let (Some(declared), Some(dims)) = (declared, &input.shape) else {
            continue;
        };
        let dims: Vec<_> = dims.iter().map(as_declared).collect();
        let element_type = input.element_type.unwrap_or(ElementType::F32);
        let value = NewValueInfo::tensor(&input.name, element_type, Some(&dims));
        let field = Content::default().message(schema::graph::INPUT, value);
        edits.replace(declared.message, field);
    }
    edits.into_model()
}

fn as_declared(dim: &Dim) -> campana_onnx::Dim {
    match dim {
        Dim::Fixed(extent) => campana_onnx::Dim::Value(*extent as i64),
        Dim::Symbol(name) if name.is_empty() => campana_onnx::Dim::Unknown,
        Dim::Symbol(name) => campana_onnx::Dim::Symbol(name.clone()),
    }
}

fn find(inputs: &[Value], shape: &InputShape) -> Result<usize, String> {
    let names = || {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        names.join("', '")
    };
    match &shape.input {
        None if inputs.len() == 1 => Ok(0),
        None => Err(format!(
            "a shape is given without a name, but the inputs are '{}': write NAME=EXTENTS",
            names()
        )),
        Some(name) => {
            let at = inputs.iter().position(|input| input.name == *name);
            at.ok_or_else(|| {
                format!(
                    "there is no input '{name}' to have a shape; the inputs are '{}'",
                    names()
                )
            })
        }
    }
}

/// Refuses a shape that contradicts what is declared.
fn agree(input: &Value, dims: &[Dim]) -> Result<(), String> {
    let Some(own) = &input.shape else {
        return Ok(());
    };
    let fits = |(own, dim): (&Dim, &Dim)| match own {
        Dim::Fixed(_) => own == dim,
        Dim::Symbol(_) => true,
    };
    if own.len() == dims.len() && own.iter().zip(dims).all(fits) {
        return Ok(());
    }
    let text = |dims: &[Dim]| {
        dims.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(format!(
        "the input '{}' has the shape [{}], which the given [{}] contradicts",
        input.name,
        text(own),
        text(dims)
    ))
}

#[cfg(test)]
mod tests {
    use campana_onnx::Source;

    use super::*;

    #[test]
    fn shapes_are_read_in_both_spellings() {
        let open = |name: &str| Dim::Symbol(name.to_owned());
        let shape: InputShape = "1x3x224x224".parse().unwrap();
        assert_eq!(shape.input, None);
        assert_eq!(shape.dims, [1, 3, 224, 224].map(Dim::Fixed));
        let shape: InputShape = "a=b:0=N, 3,?".parse().unwrap();
        assert_eq!(shape.input.as_deref(), Some("a=b:0"));
        assert_eq!(shape.dims, [open("N"), Dim::Fixed(3), open("")]);
        assert_eq!(shape.to_string().parse(), Ok(shape));
        for wrong in ["", "1x0", "1,,3", "-1x3"] {
            assert!(wrong.parse::<InputShape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_model_with_stated_shapes_is_read_again_with_them() {
        let dims = [campana_onnx::Dim::Unknown, campana_onnx::Dim::Value(3)];
        let value = NewValueInfo::tensor("x", ElementType::F32, Some(&dims));
        let graph = Content::default().message(schema::graph::INPUT, value);
        let model = Content::default().message(schema::model::GRAPH, graph);
        let model = Model::parse(Source::from_bytes(model.into_bytes().unwrap())).unwrap();
        let stated = with_input_shapes(model, &["8x3".parse().unwrap()]).unwrap();
        let inputs = super::super::inputs(&stated);
        assert_eq!(inputs.len(), 1);
        assert_eq!(inputs[0].name, "x");
        assert_eq!(inputs[0].shape, Some([8, 3].map(Dim::Fixed).to_vec()));
    }

    #[test]
    fn shapes_that_name_no_input_or_contradict_it_are_refused() {
        let value = |name: &str, shape| Value {
            name: name.into(),
            element_type: None,
            shape,
        };
        let mut inputs = [
            value("x", None),
            value("y", Some(vec![Dim::Symbol("N".into()), Dim::Fixed(3)])),
        ];
        let mut shared = [
            value("x", Some(vec![Dim::Symbol("N".into())])),
            value("y", Some(vec![Dim::Fixed(2), Dim::Symbol("N".into())])),
        ];
        assert_eq!(
            state_shapes(&mut shared, &["x=5".parse().unwrap()]),
            Ok(vec![true, true])
        );
        assert_eq!(shared[1].shape, Some(vec![Dim::Fixed(2), Dim::Fixed(5)]));
        let mut state = |text: &str| state_shapes(&mut inputs, &[text.parse().unwrap()]);
        assert_eq!(state("x=1x4"), Ok(vec![true, false]));
        assert_eq!(state("y=2x3"), Ok(vec![false, true]));
        for (wrong, words) in [
            ("1x3", "'x', 'y'"),
            ("z=1x3", "no input 'z'"),
            ("y=2x4", "[2, 3], which the given [2, 4]"),
            ("y=3", "contradicts"),
        ] {
            let refused = state(wrong).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
