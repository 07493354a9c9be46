//! What a pickle makes: values, and the storages and containers behind them.

use std::rc::Rc;

use campana_tensor::ElementType;

/// A value on the stack; containers are numbered, so that a pickle which nests
/// them a million deep costs no stack of ours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `None`, booleans, floats, bytes and what else carries no tensor.
    Opaque,
    Int(i64),
    Str(Rc<str>),
    Global(Global),
    /// A tuple, list or dict.
    Container(usize),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// The names that a pickle may refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(ElementType),
}

/// Where the elements of tensors are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    pub(crate) element_type: ElementType,
    /// The record that holds them.
    pub(crate) key: Rc<str>,
    /// Elements.
    pub(crate) len: u64,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) storage: Rc<Storage>,
    /// First element.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    /// Elements from one index to the next, for each axis.
    pub(crate) strides: Vec<usize>,
}

/// What a container holds.
#[derive(Clone, Debug)]
pub(crate) enum Items {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
}

/// A pickle that was read.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(crate) value: Value,
    /// Every storage that it refers to.
    pub(crate) storages: Vec<Rc<Storage>>,
    /// What its containers hold, by their numbers.
    pub(super) containers: Vec<Items>,
}

impl Pickle {
    /// What a value holds, where it is a container.
    pub(crate) fn items(&self, value: &Value) -> Option<&Items> {
        match value {
            Value::Container(index) => self.containers.get(*index),
            _ => None,
        }
    }
}
