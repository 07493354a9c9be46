//! A MIL program under way: operations, constants and names.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::f16;

use crate::blob::{Blob, bits};
use crate::error::Converted;
use crate::proto::{
    Argument, Binding, BlobValue, Block, Bools, Bound, Bytes, ConstantDimension, DataType,
    Dimension, Floats, Immediate, ImmediateKind, Ints, ListType, ListValue, NamedType, Operation,
    Strings, TensorKind, TensorType, TensorValue, TypeKind, Value, ValueKind, ValueType,
};

/// Axes that a value of Core ML may have.
pub(crate) const MAX_RANK: usize = 5;

/// Up to so many bytes a constant stands in the program itself: a record of the
/// other file takes 64 to 190 bytes more.
const MAX_IMMEDIATE_BYTES: usize = 4096;

/// In what a program computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 16-bit floats: what the Neural Engine computes in.
    Float16,
    /// 32-bit floats.
    Float32,
}

impl Precision {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Float16 => DataType::Float16,
            Self::Float32 => DataType::Float32,
        }
    }

    /// The nearest value that is computed with.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::Float16 => f16::from_f32(value).to_f32(),
            Self::Float32 => value,
        }
    }

    /// Values as bytes, each rounded.
    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        let half = |value: &f32| f16::from_f32(*value).to_le_bytes();
        match self {
            Self::Float16 => values.iter().flat_map(half).collect(),
            Self::Float32 => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// Bytes of a value.
    pub(crate) fn len_bytes(self) -> usize {
        bits(self.data_type()) / 8
    }
}

/// A value of the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data_type: DataType,
}

/// What an operation is given for an input.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    One(Binding),
    Many(Vec<Binding>),
}

impl From<&Var> for Given {
    fn from(var: &Var) -> Self {
        Self::One(named(&var.name))
    }
}

impl From<Var> for Given {
    fn from(var: Var) -> Self {
        Self::from(&var)
    }
}

impl From<&[Var]> for Given {
    fn from(vars: &[Var]) -> Self {
        Self::Many(vars.iter().map(|var| named(&var.name)).collect())
    }
}

impl From<Value> for Given {
    fn from(value: Value) -> Self {
        Self::One(Binding {
            bound: Some(Bound::Value(value)),
        })
    }
}

fn named(name: &str) -> Binding {
    Binding {
        bound: Some(Bound::Name(name.to_owned())),
    }
}

/// The program, its constants and names.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) precision: Precision,
    operations: Vec<Operation>,
    blob: Blob,
    names: HashSet<String>,
    /// Names that were given to values without one of their own.
    numbered: usize,
    /// Constants, and what decodes some, that are there already, by their encoded
    /// value or operation.
    constants: HashMap<Vec<u8>, Var>,
}

impl Program {
    pub(crate) fn new(precision: Precision) -> Self {
        Self {
            precision,
            operations: Vec::new(),
            blob: Blob::default(),
            names: HashSet::new(),
            numbered: 0,
            constants: HashMap::new(),
        }
    }

    /// The operations, and the file of constants.
    pub(crate) fn finish(self, outputs: Vec<String>) -> (Block, Vec<u8>) {
        let block = Block {
            outputs,
            operations: self.operations,
        };
        (block, self.blob.into_bytes())
    }

    /// A name like this one that no other value has.
    pub(crate) fn name(&mut self, like: &str) -> String {
        let name = plain_name(like);
        let mut unique = name.clone();
        let mut number = 1;
        while !self.names.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        unique
    }

    /// A short name for a value between operations: names of networks, written
    /// at each use, would take more than small layers do.
    fn number(&mut self) -> String {
        self.numbered += 1;
        let number = self.numbered;
        self.name(&format!("v{number}"))
    }

    /// Whether an operation, not an input, makes a value.
    pub(crate) fn makes(&self, name: &str) -> bool {
        let mut outputs = self
            .operations
            .iter()
            .flat_map(|operation| &operation.outputs);
        outputs.any(|output| output.name == name)
    }

    /// The same value under a name that is taken for it.
    pub(crate) fn renamed(&mut self, var: Var, name: &str) -> Var {
        for operation in &mut self.operations {
            for output in &mut operation.outputs {
                if output.name == var.name {
                    name.clone_into(&mut output.name);
                }
            }
            let bindings = operation
                .inputs
                .values_mut()
                .flat_map(|argument| &mut argument.arguments);
            for binding in bindings {
                if let Some(Bound::Name(own)) = &mut binding.bound
                    && *own == var.name
                {
                    name.clone_into(own);
                }
            }
        }
        Var {
            name: name.to_owned(),
            ..var
        }
    }

    /// Floats of the program's precision.
    ///
    /// # Errors
    ///
    /// Where a finite value is none in that precision.
    pub(crate) fn floats(&mut self, shape: &[usize], values: &[f32]) -> Converted<Var> {
        let overflows =
            |&&value: &&f32| value.is_finite() && !self.precision.round(value).is_finite();
        if let Some(value) = values.iter().find(overflows) {
            return Err(format!(
                "computes with {value}, which 16-bit floats do not hold; use --target coreml-float32"
            ));
        }
        let bytes = self.precision.encode(values);
        Ok(self.tensor(shape, self.precision.data_type(), bytes))
    }

    /// One float of the program's precision.
    pub(crate) fn float(&mut self, value: f32) -> Converted<Var> {
        self.floats(&[], &[value])
    }

    pub(crate) fn ints(&mut self, values: &[usize]) -> Var {
        let ints: Vec<i32> = values.iter().map(|&value| value as i32).collect();
        self.signed(&ints)
    }

    pub(crate) fn signed(&mut self, values: &[i32]) -> Var {
        let kind = TensorKind::Ints(Ints {
            values: values.to_vec(),
        });
        self.constant(immediate(&[values.len()], DataType::Int32, kind))
    }

    pub(crate) fn int(&mut self, value: i32) -> Var {
        self.constant(int_value(value))
    }

    pub(crate) fn flag(&mut self, value: bool) -> Var {
        let kind = TensorKind::Bools(Bools {
            values: vec![value],
        });
        self.constant(immediate(&[], DataType::Bool, kind))
    }

    pub(crate) fn text(&mut self, text: &str) -> Var {
        self.constant(text_value(text))
    }

    /// A tensor of elements that are encoded already.
    pub(crate) fn tensor(&mut self, shape: &[usize], data_type: DataType, bytes: Vec<u8>) -> Var {
        let value = self.tensor_value(shape, data_type, bytes);
        self.constant(value)
    }

    /// The same as a value without a name.
    pub(crate) fn tensor_value(
        &mut self,
        shape: &[usize],
        data_type: DataType,
        bytes: Vec<u8>,
    ) -> Value {
        if bytes.len() > MAX_IMMEDIATE_BYTES {
            return self.stored_value(shape, data_type, bytes);
        }
        let kind = match data_type {
            DataType::Float32 => {
                let (values, _) = bytes.as_chunks();
                TensorKind::Floats(Floats {
                    values: values
                        .iter()
                        .map(|&bytes| f32::from_le_bytes(bytes))
                        .collect(),
                })
            }
            _ => TensorKind::Bytes(Bytes { values: bytes }),
        };
        immediate(shape, data_type, kind)
    }

    /// The same in the file of constants, however small: there it is once where
    /// several have it.
    pub(crate) fn stored_value(
        &mut self,
        shape: &[usize],
        data_type: DataType,
        bytes: Vec<u8>,
    ) -> Value {
        let count = shape.iter().product();
        let offset = self.blob.add(data_type, count, bytes);
        Value {
            value_type: Some(tensor_type(shape, data_type)),
            kind: Some(ValueKind::Blob(BlobValue {
                file_name: "@model_path/weights/weight.bin".to_owned(),
                offset,
            })),
        }
    }

    /// A constant, once for all that want the same.
    fn constant(&mut self, value: Value) -> Var {
        let key = prost::Message::encode_to_vec(&value);
        if let Some(var) = self.constants.get(&key) {
            return var.clone();
        }
        let Some(TypeKind::Tensor(found)) = value.value_type.as_ref().and_then(|t| t.kind.clone())
        else {
            unreachable!("constants are tensors");
        };
        let extents = found.dimensions.iter().filter_map(|dim| dim.constant);
        let var = Var {
            name: self.name(&format!("c{}", self.constants.len())),
            shape: extents.map(|extent| extent.size as usize).collect(),
            data_type: found.data_type(),
        };
        self.push("const", BTreeMap::new(), &[&var], [("val", value)]);
        self.constants.insert(key, var.clone());
        var
    }

    /// An operation with one result of the program's precision.
    ///
    /// # Errors
    ///
    /// Where the result has more axes than Core ML's values.
    pub(crate) fn operation(
        &mut self,
        kind: &str,
        inputs: Vec<(&str, Given)>,
        shape: &[usize],
    ) -> Converted<Var> {
        let data_type = self.precision.data_type();
        Ok(self
            .operations(kind, inputs, &[shape], data_type)?
            .remove(0))
    }

    /// An operation that decodes constants and is called as they are; once for all
    /// that want the same.
    pub(crate) fn decoding(
        &mut self,
        kind: &str,
        inputs: Vec<(&str, Given)>,
        name: &str,
        shape: &[usize],
    ) -> Var {
        let inputs = arguments(inputs);
        let key = Operation {
            kind: kind.to_owned(),
            inputs: inputs.clone(),
            ..Operation::default()
        };
        let key = prost::Message::encode_to_vec(&key);
        if let Some(var) = self.constants.get(&key) {
            return var.clone();
        }
        let var = Var {
            name: self.number(),
            shape: shape.to_vec(),
            data_type: self.precision.data_type(),
        };
        let name = [("name", text_value(&plain_name(name)))];
        self.push(kind, inputs, &[&var], name);
        self.constants.insert(key, var.clone());
        var
    }

    /// An operation with results of one type.
    ///
    /// # Errors
    ///
    /// Where a result has more axes than Core ML's values.
    pub(crate) fn operations(
        &mut self,
        kind: &str,
        inputs: Vec<(&str, Given)>,
        results: &[&[usize]],
        data_type: DataType,
    ) -> Converted<Vec<Var>> {
        let mut vars = Vec::new();
        for shape in results {
            let rank = shape.len();
            if rank > MAX_RANK {
                return Err(format!(
                    "has {rank} axes, and values of Core ML at most {MAX_RANK}"
                ));
            }
            vars.push(Var {
                name: self.number(),
                shape: shape.to_vec(),
                data_type,
            });
        }
        let outputs: Vec<&Var> = vars.iter().collect();
        self.push(kind, arguments(inputs), &outputs, []);
        Ok(vars)
    }

    /// Adds an operation whose results have types of their own.
    pub(crate) fn push_typed(
        &mut self,
        kind: &str,
        inputs: Vec<(&str, Given)>,
        outputs: Vec<NamedType>,
    ) {
        let name = outputs
            .first()
            .map_or(kind, |output| &output.name)
            .to_owned();
        self.operations.push(Operation {
            kind: kind.to_owned(),
            inputs: arguments(inputs),
            outputs,
            attributes: BTreeMap::from([("name".to_owned(), text_value(&name))]),
        });
    }

    fn push<const N: usize>(
        &mut self,
        kind: &str,
        inputs: BTreeMap<String, Argument>,
        outputs: &[&Var],
        more: [(&str, Value); N],
    ) {
        let mut attributes = BTreeMap::from([("name".to_owned(), text_value(&outputs[0].name))]);
        attributes.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let outputs = outputs.iter().map(|var| named_type(var)).collect();
        self.operations.push(Operation {
            kind: kind.to_owned(),
            inputs,
            outputs,
            attributes,
        });
    }
}

/// A name as Core ML has them: letters, digits and underscores, no digit first.
fn plain_name(like: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let plain = like.chars().map(|c| if is_plain(c) { c } else { '_' });
    let mut name: String = plain.collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

fn arguments(inputs: Vec<(&str, Given)>) -> BTreeMap<String, Argument> {
    let arguments = inputs.into_iter().map(|(name, given)| {
        let arguments = match given {
            Given::One(binding) => vec![binding],
            Given::Many(bindings) => bindings,
        };
        (name.to_owned(), Argument { arguments })
    });
    arguments.collect()
}

/// A value's name and type.
pub(crate) fn named_type(var: &Var) -> NamedType {
    NamedType {
        name: var.name.clone(),
        value_type: Some(tensor_type(&var.shape, var.data_type)),
    }
}

/// The type of a tensor.
pub(crate) fn tensor_type(shape: &[usize], data_type: DataType) -> ValueType {
    ValueType {
        kind: Some(TypeKind::Tensor(TensorType {
            data_type: data_type.into(),
            rank: shape.len() as i64,
            dimensions: shape.iter().map(|&extent| dimension(extent)).collect(),
        })),
    }
}

fn dimension(extent: usize) -> Dimension {
    Dimension {
        constant: Some(ConstantDimension {
            size: extent as u64,
        }),
    }
}

fn immediate(shape: &[usize], data_type: DataType, kind: TensorKind) -> Value {
    Value {
        value_type: Some(tensor_type(shape, data_type)),
        kind: Some(ValueKind::Immediate(Immediate {
            kind: Some(ImmediateKind::Tensor(TensorValue { kind: Some(kind) })),
        })),
    }
}

/// A whole number.
pub(crate) fn int_value(value: i32) -> Value {
    let values = vec![value];
    immediate(&[], DataType::Int32, TensorKind::Ints(Ints { values }))
}

fn text_value(text: &str) -> Value {
    let kind = TensorKind::Strings(Strings {
        values: vec![text.to_owned()],
    });
    immediate(&[], DataType::String, kind)
}

/// A list of texts.
pub(crate) fn texts(texts: &[String]) -> Value {
    let list = ListType {
        element: Some(tensor_type(&[], DataType::String)),
        length: Some(dimension(texts.len())),
    };
    let values = texts.iter().map(|text| text_value(text)).collect();
    Value {
        value_type: Some(ValueType {
            kind: Some(TypeKind::List(Box::new(list))),
        }),
        kind: Some(ValueKind::Immediate(Immediate {
            kind: Some(ImmediateKind::List(ListValue { values })),
        })),
    }
}
