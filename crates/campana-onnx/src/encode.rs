//! New messages: nodes, tensors, values and their like.
//!
//! Each becomes [`Content`] and is put into its parent by
//! [`Content::message`] with the field's number from [`schema`](crate::schema).

use std::borrow::Cow;

use campana_tensor::ElementType;

use crate::Content;
use crate::proto::{Dim, ExternalData};
use crate::schema::{
    attribute, attribute_type, entry, node, opset, tensor, type_proto, value_info,
};

/// A tensor to be written.
#[derive(Debug)]
pub struct NewTensor<'a> {
    header: Content<'a>,
    data: Content<'a>,
}

impl<'a> NewTensor<'a> {
    /// A tensor whose elements are given as ONNX stores them: little-endian,
    /// row-major, 4-bit ones two a byte with the first in the low bits.
    pub fn raw(
        name: &str,
        dims: &[usize],
        element_type: ElementType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Self {
        Self::from_content(name, dims, element_type, Content::bytes(bytes))
    }

    /// A tensor whose elements, in the same form, are any content, for example
    /// [`Content::stream`].
    pub fn from_content(
        name: &str,
        dims: &[usize],
        element_type: ElementType,
        data: Content<'a>,
    ) -> Self {
        Self {
            header: tensor_header(name, dims, element_type),
            data: Content::default().message(tensor::RAW_DATA, data),
        }
    }

    /// A tensor whose elements are in another file.
    pub fn external(
        name: &str,
        dims: &[usize],
        element_type: ElementType,
        external: &ExternalData,
    ) -> Self {
        let mut data = Content::default().message(
            tensor::EXTERNAL_DATA,
            key_value("location", &external.location),
        );
        let numbers = [
            ("offset", Some(external.offset)),
            ("length", external.length),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                let pair = key_value(key, &value.to_string());
                data = data.message(tensor::EXTERNAL_DATA, pair);
            }
        }
        if let Some(checksum) = &external.checksum {
            data = data.message(tensor::EXTERNAL_DATA, key_value("checksum", checksum));
        }
        Self {
            header: tensor_header(name, dims, element_type),
            data: data.int(tensor::DATA_LOCATION, 1),
        }
    }

    /// Adds fields from elsewhere, such as a copied doc string.
    #[must_use]
    pub fn with(mut self, fields: impl Into<Content<'a>>) -> Self {
        self.header = self.header.then(fields);
        self
    }
}

impl<'a> From<NewTensor<'a>> for Content<'a> {
    fn from(tensor: NewTensor<'a>) -> Self {
        tensor.header.then(tensor.data)
    }
}

fn tensor_header<'a>(name: &str, dims: &[usize], element_type: ElementType) -> Content<'a> {
    let mut header = Content::default();
    if !dims.is_empty() {
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        header = header.ints(tensor::DIMS, &dims);
    }
    header = header.int(tensor::DATA_TYPE, element_type.to_onnx().into());
    if !name.is_empty() {
        header = header.string(tensor::NAME, name);
    }
    header
}

/// A node to be written.
#[derive(Debug)]
pub struct NewNode<'a>(Content<'a>);

impl<'a> NewNode<'a> {
    /// An operator of ONNX's own domain with these inputs and outputs.
    pub fn new<I, O>(op_type: &str, inputs: I, outputs: O) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
        O: IntoIterator<Item: AsRef<str>>,
    {
        let mut content = Content::default();
        for input in inputs {
            content = content.string(node::INPUT, input.as_ref());
        }
        for output in outputs {
            content = content.string(node::OUTPUT, output.as_ref());
        }
        Self(content.string(node::OP_TYPE, op_type))
    }

    /// Gives the node a name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self(self.0.string(node::NAME, name))
    }

    /// Puts the operator into a domain.
    #[must_use]
    pub fn domain(self, domain: &str) -> Self {
        Self(self.0.string(node::DOMAIN, domain))
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(self, name: &str, value: impl Into<NewAttribute<'a>>) -> Self {
        let fields = Content::default().string(attribute::NAME, name);
        let (fields, kind) = match value.into() {
            NewAttribute::Int(value) => (fields.int(attribute::I, value), attribute_type::INT),
            NewAttribute::Float(value) => {
                (fields.float(attribute::F, value), attribute_type::FLOAT)
            }
            NewAttribute::String(value) => {
                (fields.string(attribute::S, &value), attribute_type::STRING)
            }
            NewAttribute::Ints(values) => {
                (fields.ints(attribute::INTS, &values), attribute_type::INTS)
            }
            NewAttribute::Floats(values) => (
                fields.floats(attribute::FLOATS, &values),
                attribute_type::FLOATS,
            ),
            NewAttribute::Tensor(tensor) => {
                (fields.message(attribute::T, tensor), attribute_type::TENSOR)
            }
            NewAttribute::Graph(graph) => {
                (fields.message(attribute::G, graph), attribute_type::GRAPH)
            }
        };
        let fields = fields.int(attribute::TYPE, kind.into());
        Self(self.0.message(node::ATTRIBUTE, fields))
    }

    /// Adds fields from elsewhere, such as a copied doc string.
    #[must_use]
    pub fn with(self, fields: impl Into<Content<'a>>) -> Self {
        Self(self.0.then(fields))
    }
}

impl<'a> From<NewNode<'a>> for Content<'a> {
    fn from(node: NewNode<'a>) -> Self {
        node.0
    }
}

/// The value of a new attribute.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is named after ONNX's type")]
pub enum NewAttribute<'a> {
    Int(i64),
    Float(f32),
    String(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Tensor(NewTensor<'a>),
    /// The fields of the graph.
    Graph(Content<'a>),
}

impl From<i64> for NewAttribute<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for NewAttribute<'_> {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for NewAttribute<'_> {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<Vec<i64>> for NewAttribute<'_> {
    fn from(values: Vec<i64>) -> Self {
        Self::Ints(values)
    }
}

impl From<Vec<f32>> for NewAttribute<'_> {
    fn from(values: Vec<f32>) -> Self {
        Self::Floats(values)
    }
}

impl<'a> From<NewTensor<'a>> for NewAttribute<'a> {
    fn from(tensor: NewTensor<'a>) -> Self {
        Self::Tensor(tensor)
    }
}

/// The declaration of a tensor value (an input, an output or another) to be
/// written.
#[derive(Debug)]
pub struct NewValueInfo(Content<'static>);

impl NewValueInfo {
    /// A tensor of this element type and, where the rank is known, shape.
    pub fn tensor(name: &str, element_type: ElementType, shape: Option<&[Dim]>) -> Self {
        let mut tensor_type =
            Content::default().int(type_proto::ELEM_TYPE, element_type.to_onnx().into());
        if let Some(dims) = shape {
            let mut shape = Content::default();
            for dim in dims {
                let dim = match dim {
                    Dim::Value(value) => Content::default().int(type_proto::DIM_VALUE, *value),
                    Dim::Symbol(name) => Content::default().string(type_proto::DIM_PARAM, name),
                    Dim::Unknown => Content::default(),
                };
                shape = shape.message(type_proto::DIM, dim);
            }
            tensor_type = tensor_type.message(type_proto::SHAPE, shape);
        }
        let value_type = Content::default().message(type_proto::TENSOR_TYPE, tensor_type);
        Self(
            Content::default()
                .string(value_info::NAME, name)
                .message(value_info::TYPE, value_type),
        )
    }
}

impl From<NewValueInfo> for Content<'_> {
    fn from(value: NewValueInfo) -> Self {
        value.0
    }
}

/// An operator set, for [`OPSET_IMPORT`](crate::schema::model::OPSET_IMPORT);
/// `""` is ONNX's own domain.
pub fn opset_import(domain: &str, version: i64) -> Content<'static> {
    Content::default()
        .string(opset::DOMAIN, domain)
        .int(opset::VERSION, version)
}

/// A named piece of metadata, for any field called `METADATA_PROPS`.
pub fn metadata_entry(key: &str, value: &str) -> Content<'static> {
    key_value(key, value)
}

fn key_value<'a>(key: &str, value: &str) -> Content<'a> {
    Content::default()
        .string(entry::KEY, key)
        .string(entry::VALUE, value)
}
