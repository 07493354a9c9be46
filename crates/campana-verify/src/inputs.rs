//! What the models are asked: random values, and the user's data.

use std::path::Path;

use campana_calibrate::typed_values;
use campana_ir::format;
use campana_ir::graph::{Graph, Value};
use campana_tensor::{ElementType, Tensor};

use crate::{Error, ErrorKind};

/// One value for each input of a model, by its name.
pub type InputSet = Vec<(String, Tensor)>;

/// What the models are run on, one set of inputs after another.
#[derive(Clone, Debug)]
pub struct Inputs {
    sets: Vec<InputSet>,
    random: usize,
}

impl Inputs {
    /// The random sets, then those that were given.
    ///
    /// # Errors
    ///
    /// Where there is none at all.
    pub fn new(random: Vec<InputSet>, given: Vec<InputSet>) -> Result<Self, Error> {
        if random.is_empty() && given.is_empty() {
            return Err(Error::new(
                ErrorKind::Argument,
                "there is nothing to run the models on",
            ));
        }
        let count = random.len();
        let sets = random.into_iter().chain(given).collect();
        Ok(Self {
            sets,
            random: count,
        })
    }

    /// All sets; the random ones are the first.
    pub fn sets(&self) -> &[InputSet] {
        &self.sets
    }

    /// Number of sets.
    pub fn count(&self) -> usize {
        self.sets.len()
    }

    /// How many of them are random.
    pub fn random(&self) -> usize {
        self.random
    }
}

/// So many sets of random values, always the same, of the types that inputs
/// declare and of the given shapes.
///
/// Floats are uniform from -1 to 1, the range of normalized images, bytes
/// uniform; other integers are 0 and booleans true, which are valid as indices,
/// lengths and masks.
///
/// # Errors
///
/// Where an input is of a type without values, or a shape has none.
pub fn random_sets(
    inputs: &[Value],
    shapes: &[Vec<usize>],
    count: usize,
) -> Result<Vec<InputSet>, Error> {
    let mut source = Random(1);
    let set = |source: &mut Random| {
        let pairs = inputs.iter().zip(shapes);
        let tensors = pairs
            .map(|(input, shape)| Ok((input.name.clone(), random_tensor(source, input, shape)?)));
        tensors.collect::<Result<InputSet, Error>>()
    };
    (0..count).map(|_| set(&mut source)).collect()
}

/// A linear congruential sequence: the same on every machine.
struct Random(u32);

impl Random {
    /// The next value, uniform from -1 to 1.
    fn float(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// So many values, uniform in a range.
    fn floats(&mut self, len: usize, [low, high]: [f32; 2]) -> Vec<f32> {
        let half = (high - low) / 2.0;
        (0..len)
            .map(|_| low + half * (self.float() + 1.0))
            .collect()
    }
}

fn random_tensor(source: &mut Random, input: &Value, shape: &[usize]) -> Result<Tensor, Error> {
    let element_type = input.element_type.unwrap_or(ElementType::F32);
    let refused = |what: String| {
        let message = format!("input '{}' is of {what}", input.name);
        Error::new(ErrorKind::Model, message)
    };
    let len = shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
        .filter(|&len| len > 0)
        .ok_or_else(|| refused(format!("shape {shape:?}, which has no values")))?;
    let data = typed_values(element_type, len, |len, range| source.floats(len, range))
        .ok_or_else(|| refused(format!("{element_type}, which cannot be verified")))?;
    Tensor::new(shape.to_vec(), data)
        .ok_or_else(|| refused(format!("shape {shape:?}, which has no values")))
}

/// The graph of a model, whose inputs it declares.
///
/// # Errors
///
/// Where the model cannot be read.
pub fn graph_of(model: &Path) -> Result<Graph, Error> {
    format::load(model).map_err(|error| {
        Error::new(
            ErrorKind::Model,
            format!("cannot read '{}'", model.display()),
        )
        .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::TensorData;

    fn input(element_type: ElementType) -> Value {
        Value {
            name: "x".into(),
            element_type: Some(element_type),
            shape: None,
        }
    }

    fn floats(set: &InputSet) -> &[f32] {
        match set[0].1.data() {
            TensorData::F32(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn random_inputs_are_within_one_and_always_the_same() {
        let inputs = [input(ElementType::F32)];
        let make = || random_sets(&inputs, &[vec![1, 3, 2, 2]], 5).unwrap();
        let sets = make();
        assert_eq!(sets.len(), 5);
        let values: Vec<f32> = sets.iter().flat_map(floats).copied().collect();
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        let mean = values.iter().sum::<f32>() / 60.0;
        assert!(mean.abs() < 0.3, "{mean}");
        assert_ne!(sets[0], sets[1]);
        assert_eq!(make(), sets);
    }

    #[test]
    fn inputs_have_the_types_that_are_declared() {
        for element_type in [
            ElementType::F16,
            ElementType::U8,
            ElementType::I64,
            ElementType::Bool,
        ] {
            let sets = random_sets(&[input(element_type)], &[vec![4]], 1).unwrap();
            assert_eq!(sets[0][0].1.data().element_type(), element_type);
        }
    }

    #[test]
    fn given_sets_follow_the_random_ones() {
        let of = |value: f32| {
            let tensor = Tensor::new(vec![1], TensorData::F32(vec![value])).unwrap();
            vec![("x".to_owned(), tensor)]
        };
        let inputs = Inputs::new(vec![of(0.5)], vec![of(7.0)]).unwrap();
        assert_eq!((inputs.count(), inputs.random()), (2, 1));
        assert_eq!(floats(&inputs.sets()[1]), [7.0]);
        let error = Inputs::new(Vec::new(), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }

    #[test]
    fn shapes_without_values_are_refused() {
        for shape in [vec![1, 0], vec![usize::MAX, 2]] {
            let error = random_sets(&[input(ElementType::F32)], &[shape], 1).unwrap_err();
            assert!(error.to_string().contains("'x'"), "{error}");
        }
    }
}
