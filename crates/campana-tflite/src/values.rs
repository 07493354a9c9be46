//! The values of a network in TFLite: the tensors that hold each, in the orders
//! and types in which operators want them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use crate::error::Converted;
use crate::layout::{self, laid_out, lie_alike};
use crate::schema::{Code, Model, Operator, Options, Quantization, Tensor, TensorType};

/// How int8 numbers stand for the elements of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Params {
    pub(crate) scale: f32,
    pub(crate) zero_point: i8,
}

impl Params {
    /// The nearest number that stands for a value.
    pub(crate) fn quantize(self, value: f32) -> i8 {
        let number = (value / self.scale).round_ties_even() + f32::from(self.zero_point);
        number.clamp(-128.0, 127.0) as i8
    }

    /// The least and the greatest value that numbers stand for.
    pub(crate) fn range(self) -> [f32; 2] {
        [-128.0, 127.0].map(|number| (number - f32::from(self.zero_point)) * self.scale)
    }
}

/// One tensor that holds a value.
#[derive(Clone, Debug)]
struct Form {
    /// The axis of ONNX at each place.
    order: Vec<usize>,
    /// Of int8 numbers; `None` for floats.
    params: Option<Params>,
    tensor: usize,
}

/// What an operator makes: the extents in ONNX's order, and how they lie.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) shape: Vec<usize>,
    pub(crate) order: Vec<usize>,
    pub(crate) params: Option<Params>,
}

/// A value: its extents in ONNX's order, and the tensors that hold it.
#[derive(Clone, Debug)]
struct Held {
    shape: Vec<usize>,
    forms: Vec<Form>,
}

/// The model while it is made, and which tensors hold the values so far.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) model: Model,
    held: HashMap<String, Held>,
    /// Tensors with data, by the digest of it.
    constants: HashMap<u64, Vec<usize>>,
}

/// A number that differs for most other bytes.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Values {
    fn held(&self, name: &str) -> Converted<&Held> {
        let held = self.held.get(name);
        held.ok_or_else(|| format!("reads '{name}', which is no float32 activation"))
    }

    /// Whether a value is one of booleans.
    pub(crate) fn is_boolean(&self, name: &str) -> bool {
        let forms = self.held.get(name).map(|held| &held.forms);
        forms.is_some_and(|forms| self.model.tensors[forms[0].tensor].element == TensorType::Bool)
    }

    /// The extents of a value, in ONNX's order.
    pub(crate) fn shape(&self, name: &str) -> Converted<Vec<usize>> {
        Ok(self.held(name)?.shape.clone())
    }

    /// The order in which a value lies since it was made.
    pub(crate) fn order(&self, name: &str) -> Converted<Vec<usize>> {
        Ok(self.held(name)?.forms[0].order.clone())
    }

    /// How int8 numbers stand for a value, where some do.
    pub(crate) fn params(&self, name: &str) -> Option<Params> {
        self.held.get(name)?.forms[0].params
    }

    /// A tensor holds a value that a node makes.
    pub(crate) fn define(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        order: Vec<usize>,
        tensor: usize,
    ) {
        let form = Form {
            order,
            params: self.params_of(tensor),
            tensor,
        };
        let forms = vec![form];
        self.held.insert(name.to_owned(), Held { shape, forms });
    }

    /// An operator makes a value.
    pub(crate) fn make(
        &mut self,
        name: &str,
        made: Made,
        (code, options): (Code, Options),
        inputs: Vec<usize>,
    ) {
        let Made {
            shape,
            order,
            params,
        } = made;
        let tensor = self.activation(name, laid_out(&shape, &order), params);
        self.operator(code, inputs, tensor, options);
        self.define(name, shape, order, tensor);
    }

    /// A value is another one whose axes are in the order of `permutation`,
    /// which names the other's axis for each of its own: nothing moves.
    pub(crate) fn define_permuted(
        &mut self,
        name: &str,
        of: &str,
        permutation: &[usize],
    ) -> Converted {
        let held = self.held(of)?;
        let shape = laid_out(&held.shape, permutation);
        let forms = held.forms.iter().map(|form| Form {
            order: form
                .order
                .iter()
                .map(|&axis| layout::place(permutation, axis))
                .collect(),
            ..form.clone()
        });
        let forms = forms.collect();
        self.held.insert(name.to_owned(), Held { shape, forms });
        Ok(())
    }

    /// How the numbers of a tensor stand for values, where it has numbers.
    pub(crate) fn params_of(&self, tensor: usize) -> Option<Params> {
        let quantization = self.model.tensors[tensor].quantization.as_ref()?;
        Some(Params {
            scale: quantization.scales[0],
            zero_point: quantization.zero_point as i8,
        })
    }

    /// A tensor that holds a value in this order, as floats or as such numbers;
    /// one is made where there is none.
    pub(crate) fn operand(
        &mut self,
        name: &str,
        params: Option<Params>,
        order: &[usize],
    ) -> Converted<usize> {
        let Held { shape, forms } = self.held(name)?.clone();
        let alike = |form: &&Form| form.params == params && form.order == order;
        if let Some(found) = forms.iter().find(alike) {
            return Ok(found.tensor);
        }
        let of_type = forms.iter().find(|form| form.params == params);
        let in_order = forms.iter().find(|form| form.order == order);
        let tensor = match (of_type, in_order) {
            (Some(form), _) => self.reordered(form, &shape, order),
            (None, Some(form)) => self.retyped(form.tensor, params),
            (None, None) => {
                let first = &forms[0];
                let reordered = self.reordered(first, &shape, order);
                let form = Form {
                    order: order.to_vec(),
                    params: first.params,
                    tensor: reordered,
                };
                self.remember(name, form);
                self.retyped(reordered, params)
            }
        };
        let order = order.to_vec();
        self.remember(
            name,
            Form {
                order,
                params,
                tensor,
            },
        );
        Ok(tensor)
    }

    fn remember(&mut self, name: &str, form: Form) {
        if let Some(held) = self.held.get_mut(name) {
            held.forms.push(form);
        }
    }

    /// The elements of a tensor in another order.
    fn reordered(&mut self, form: &Form, shape: &[usize], order: &[usize]) -> usize {
        let extents = laid_out(shape, order);
        if lie_alike(shape, &form.order, order) {
            return self.reshaped(form.tensor, extents);
        }
        let places = order.iter().map(|&axis| layout::place(&form.order, axis));
        let places: Vec<i32> = places.map(|place| place as i32).collect();
        let permutation = self.integers("permutation", &places);
        let name = self.name_of(form.tensor);
        let tensor = self.like(form.tensor, format!("{name}/transposed"), extents);
        let inputs = vec![form.tensor, permutation];
        self.operator(Code::Transpose, inputs, tensor, Options::None);
        tensor
    }

    /// The elements of a tensor in other extents.
    pub(crate) fn reshaped(&mut self, tensor: usize, extents: Vec<usize>) -> usize {
        if self.model.tensors[tensor].shape == extents {
            return tensor;
        }
        let asked: Vec<i32> = extents.iter().map(|&extent| extent as i32).collect();
        let asked = self.integers("shape", &asked);
        let name = self.name_of(tensor);
        let options = Options::Reshape(extents.clone());
        let reshaped = self.like(tensor, format!("{name}/reshaped"), extents);
        self.operator(Code::Reshape, vec![tensor, asked], reshaped, options);
        reshaped
    }

    /// The elements of a tensor as floats or as other numbers.
    pub(crate) fn retyped(&mut self, tensor: usize, params: Option<Params>) -> usize {
        if self.params_of(tensor) == params {
            return tensor;
        }
        let extents = self.model.tensors[tensor].shape.clone();
        let name = self.name_of(tensor);
        let (code, what) = match params {
            Some(_) => (Code::Quantize, "quantized"),
            None => (Code::Dequantize, "dequantized"),
        };
        let retyped = self.activation(&format!("{name}/{what}"), extents, params);
        self.operator(code, vec![tensor], retyped, Options::None);
        retyped
    }

    /// A name without what was made of the tensor since.
    fn name_of(&self, tensor: usize) -> String {
        let name = &self.model.tensors[tensor].name;
        let made = ["transposed", "reshaped", "quantized", "dequantized"];
        match name.rsplit_once('/') {
            Some((before, last)) if made.contains(&last) => before.to_owned(),
            _ => name.clone(),
        }
    }

    /// A new tensor that an operator will make.
    pub(crate) fn activation(
        &mut self,
        name: &str,
        extents: Vec<usize>,
        params: Option<Params>,
    ) -> usize {
        let quantization = params.map(|params| Quantization {
            scales: vec![params.scale],
            zero_point: params.zero_point.into(),
            axis: 0,
        });
        self.tensor(Tensor {
            name: name.to_owned(),
            shape: extents,
            element: match quantization {
                Some(_) => TensorType::Int8,
                None => TensorType::Float32,
            },
            data: None,
            quantization,
        })
    }

    /// A new tensor of other extents whose elements are as those of one that is
    /// there.
    pub(crate) fn like(&mut self, tensor: usize, name: String, extents: Vec<usize>) -> usize {
        let made = Tensor {
            name,
            shape: extents,
            data: None,
            ..self.model.tensors[tensor].clone()
        };
        self.tensor(made)
    }

    /// A new tensor of booleans that an operator will make.
    pub(crate) fn booleans(&mut self, name: &str, extents: Vec<usize>) -> usize {
        self.tensor(Tensor {
            name: name.to_owned(),
            shape: extents,
            element: TensorType::Bool,
            data: None,
            quantization: None,
        })
    }

    /// A tensor of this model; a constant that is there already is taken again,
    /// under its first name.
    pub(crate) fn tensor(&mut self, tensor: Tensor) -> usize {
        let next = self.model.tensors.len();
        if let Some(data) = &tensor.data {
            let is_same = |own: &Tensor| {
                own.data == tensor.data
                    && own.element == tensor.element
                    && own.shape == tensor.shape
                    && own.quantization == tensor.quantization
            };
            let alike = self.constants.entry(digest(data)).or_default();
            let mut known = alike.iter().copied();
            if let Some(known) = known.find(|&at| is_same(&self.model.tensors[at])) {
                return known;
            }
            alike.push(next);
        }
        self.model.tensors.push(tensor);
        next
    }

    /// A constant of floats.
    pub(crate) fn floats(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) -> usize {
        self.tensor(Tensor {
            name: name.to_owned(),
            shape,
            element: TensorType::Float32,
            data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            quantization: None,
        })
    }

    /// A constant of booleans.
    pub(crate) fn constant_booleans(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        flags: &[bool],
    ) -> usize {
        self.tensor(Tensor {
            name: name.to_owned(),
            shape,
            element: TensorType::Bool,
            data: Some(flags.iter().map(|&flag| flag.into()).collect()),
            quantization: None,
        })
    }

    /// A constant scalar of the type that operands have.
    pub(crate) fn scalar(&mut self, value: f32, params: Option<Params>) -> usize {
        self.same(value, Vec::new(), params)
    }

    /// A constant list of one element of the type that operands have.
    pub(crate) fn list_of_one(&mut self, value: f32, params: Option<Params>) -> usize {
        self.same(value, vec![1], params)
    }

    fn same(&mut self, value: f32, shape: Vec<usize>, params: Option<Params>) -> usize {
        let Some(params) = params else {
            return self.floats("scalar", shape, &[value]);
        };
        self.tensor(Tensor {
            name: "scalar".to_owned(),
            shape,
            element: TensorType::Int8,
            data: Some(vec![params.quantize(value).cast_unsigned()]),
            quantization: Some(Quantization {
                scales: vec![params.scale],
                zero_point: params.zero_point.into(),
                axis: 0,
            }),
        })
    }

    /// A constant list of integers.
    pub(crate) fn integers(&mut self, name: &str, values: &[i32]) -> usize {
        self.integers_of(name, vec![values.len()], values)
    }

    /// A constant integer.
    pub(crate) fn integer(&mut self, value: i32) -> usize {
        self.integers_of("integer", Vec::new(), &[value])
    }

    /// A constant list of pairs of integers.
    pub(crate) fn pairs(&mut self, name: &str, pairs: &[[usize; 2]]) -> usize {
        let values = pairs.iter().flatten().map(|&value| value as i32);
        let values: Vec<i32> = values.collect();
        self.integers_of(name, vec![pairs.len(), 2], &values)
    }

    fn integers_of(&mut self, name: &str, shape: Vec<usize>, values: &[i32]) -> usize {
        self.tensor(Tensor {
            name: name.to_owned(),
            shape,
            element: TensorType::Int32,
            data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            quantization: None,
        })
    }

    /// An operator of one output.
    pub(crate) fn operator(
        &mut self,
        code: Code,
        inputs: Vec<usize>,
        output: usize,
        options: Options,
    ) {
        self.model.operators.push(Operator {
            code,
            inputs,
            outputs: vec![output],
            options,
        });
    }
}
