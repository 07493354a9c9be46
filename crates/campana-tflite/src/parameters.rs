//! What depends on constants alone: weights as numbers and scales, and the
//! values of all else that a network computes from constants.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use campana_codebook::QuantizedTensor;
use campana_ir::graph::Attribute;
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_tensor::{Granularity, Partition, Tensor, TensorData};

use crate::error::{Error, ErrorKind};

/// Values of a network that depend on constants alone.
pub(crate) struct Parameters<'g> {
    network: &'g Network<'g>,
    computed: BTreeMap<String, Tensor>,
}

/// A tensor of int8 numbers, each times the scale of its channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Integers {
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Vec<i8>,
    /// One, or one for each index along `axis`.
    pub(crate) scales: Vec<f32>,
    pub(crate) axis: usize,
}

impl<'g> Parameters<'g> {
    /// Computes what nodes make of constants, but for weights that a
    /// DequantizeLinear decodes.
    ///
    /// # Errors
    ///
    /// Where a node cannot be run; names it.
    pub(crate) fn new(network: &'g Network<'g>) -> Result<Self, Error> {
        let mut parameters = Self {
            network,
            computed: BTreeMap::new(),
        };
        let computed = campana_runtime::parameters(network, parameters.wanted());
        parameters.computed = computed.map_err(|error| {
            let message = "cannot compute what depends on constants alone";
            Error::new(ErrorKind::InvalidModel, message).with_source(error)
        })?;
        Ok(parameters)
    }

    /// The values that were computed.
    pub(crate) fn into_computed(self) -> BTreeMap<String, Tensor> {
        self.computed
    }

    /// Values that nodes make of constants and that others read.
    fn wanted(&self) -> Vec<&'g str> {
        let network = self.network;
        let mut seen = HashSet::new();
        let mut wanted = Vec::new();
        let nodes = 0..network.graph().nodes.len();
        for node in nodes {
            let is_parameter = network.node(node).outputs.first();
            let is_parameter = is_parameter.is_some_and(|name| network.is_parameter(name));
            let reads_scales = is_parameter && self.decoded(node).is_some();
            if is_parameter && !reads_scales {
                continue;
            }
            for name in network.node(node).reads() {
                let Some(producer) = network.producer(name) else {
                    continue;
                };
                if network.is_parameter(name)
                    && self.decoded(producer).is_none()
                    && seen.insert(name)
                {
                    wanted.push(name);
                }
            }
        }
        wanted
    }

    /// The int8 constant that a node decodes.
    fn decoded(&self, node: usize) -> Option<&'g Tensor> {
        let is_decoder = *self.network.op(node) == Op::DequantizeLinear;
        let node = Some(self.network.node(node)).filter(|_| is_decoder)?;
        let numbers = self.network.graph().constants.get(node.inputs.first()?)?;
        let is_block = matches!(node.attributes.get("block_size"), Some(Attribute::Int(1..)));
        (matches!(numbers.data(), TensorData::I8(_)) && !is_block).then_some(numbers)
    }

    /// A value, where it is no weight that is kept as numbers and scales.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        let constants = &self.network.graph().constants;
        constants.get(name).or_else(|| self.computed.get(name))
    }

    /// The extents of a value.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        if let Some(tensor) = self.tensor(name) {
            return Some(tensor.shape().to_vec());
        }
        match self.network.graph().quantized.get(name) {
            Some(quantized) => Some(quantized.shape.clone()),
            None => Some(self.decoded(self.network.producer(name)?)?.shape().to_vec()),
        }
    }

    /// The elements and shape of a value of floats.
    pub(crate) fn floats(&self, name: &str) -> Option<(Vec<usize>, Cow<'_, [f32]>)> {
        if let Some(tensor) = self.tensor(name) {
            return match tensor.data() {
                TensorData::F32(values) => Some((tensor.shape().to_vec(), values.into())),
                _ => None,
            };
        }
        if let Some(integers) = self.integers(name) {
            let values = integers.decoded();
            return Some((integers.shape, values.into()));
        }
        let quantized = self.network.graph().quantized.get(name)?;
        Some((quantized.shape.clone(), quantized.dequantize().into()))
    }

    /// The elements and shape of a value of booleans.
    pub(crate) fn booleans(&self, name: &str) -> Option<(Vec<usize>, &[bool])> {
        let tensor = self.tensor(name)?;
        match tensor.data() {
            TensorData::Bool(flags) => Some((tensor.shape().to_vec(), flags)),
            _ => None,
        }
    }

    /// The elements of a list or scalar of integers.
    pub(crate) fn integer_list(&self, name: &str) -> Option<Vec<i64>> {
        if let Some(known) = &self.network.value(name)?.integers {
            return Some(known.clone());
        }
        match self.tensor(name)?.data() {
            TensorData::I64(values) => Some(values.clone()),
            TensorData::I32(values) => Some(values.iter().map(|&v| v.into()).collect()),
            _ => None,
        }
    }

    /// The numbers and scales of a tensor that has a scale for each channel, or
    /// one for all.
    pub(crate) fn integers(&self, name: &str) -> Option<Integers> {
        if let Some(quantized) = self.network.graph().quantized.get(name) {
            return of_quantized(quantized);
        }
        let at = self.network.producer(name)?;
        let numbers = self.decoded(at)?;
        let node = self.network.node(at);
        let TensorData::I8(values) = numbers.data() else {
            return None;
        };
        let zero = node.inputs.get(2).filter(|name| !name.is_empty());
        if let Some(zero) = zero {
            let is_zero = match self.tensor(zero)?.data() {
                TensorData::I8(zeros) => zeros.iter().all(|&zero| zero == 0),
                _ => false,
            };
            if !is_zero {
                return None;
            }
        }
        let (_, scales) = self.floats(node.inputs.get(1)?)?;
        let shape = numbers.shape().to_vec();
        let axis = match node.attributes.get("axis") {
            Some(Attribute::Int(axis)) => axis.rem_euclid(shape.len().max(1) as i64) as usize,
            _ => 1,
        };
        let fits = scales.len() == 1 || shape.get(axis) == Some(&scales.len());
        fits.then(|| Integers {
            shape,
            numbers: values.clone(),
            scales: scales.into_owned(),
            axis,
        })
    }
}

/// The numbers of codes whose levels are whole numbers.
fn of_quantized(tensor: &QuantizedTensor) -> Option<Integers> {
    let is_channel = |&axis: &usize| {
        let by_channel = Partition::new(&tensor.shape, Some(axis), Granularity::PerChannel);
        tensor.partition == by_channel
    };
    let axis = match tensor.partition.group_count() {
        1 => 0,
        _ => (0..tensor.shape.len()).find(is_channel)?,
    };
    let (numbers, scales) = tensor.integers()?;
    Some(Integers {
        shape: tensor.shape.clone(),
        numbers,
        scales,
        axis,
    })
}

impl Integers {
    /// The numbers times their scales.
    pub(crate) fn decoded(&self) -> Vec<f32> {
        let inner: usize = self.shape.iter().skip(self.axis + 1).product();
        let scale = |i: usize| self.scales[i / inner.max(1) % self.scales.len()];
        let numbers = self.numbers.iter().enumerate();
        numbers
            .map(|(i, &number)| f32::from(number) * scale(i))
            .collect()
    }
}
