//! What depends on constants alone: the values of all that a network computes
//! from constants, computed once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use campana_codebook::QuantizedTensor;
use campana_ir::network::Network;
use campana_tensor::{Tensor, TensorData};

use crate::error::{Error, ErrorKind};

/// Values of a network that depend on constants alone.
pub(crate) struct Parameters<'g> {
    network: &'g Network<'g>,
    computed: BTreeMap<String, Tensor>,
}

impl<'g> Parameters<'g> {
    /// Computes what nodes make of constants.
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

    /// Values that nodes make of constants and that others read.
    fn wanted(&self) -> Vec<&'g str> {
        let network = self.network;
        let mut seen = HashSet::new();
        let mut wanted = Vec::new();
        for at in 0..network.graph().nodes.len() {
            let node = network.node(at);
            let is_parameter = node
                .outputs
                .first()
                .is_some_and(|name| network.is_parameter(name));
            if is_parameter {
                continue;
            }
            let computed = node
                .reads()
                .filter(|name| network.is_parameter(name) && network.producer(name).is_some());
            wanted.extend(computed.filter(|name| seen.insert(*name)));
        }
        wanted
    }

    /// A value, where it is not held as codes.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        let constants = &self.network.graph().constants;
        constants.get(name).or_else(|| self.computed.get(name))
    }

    /// A value that is held as codes.
    pub(crate) fn quantized(&self, name: &str) -> Option<&'g QuantizedTensor> {
        self.network.graph().quantized.get(name)
    }

    /// The extents of a value.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.tensor(name) {
            Some(tensor) => Some(tensor.shape().to_vec()),
            None => Some(self.quantized(name)?.shape.clone()),
        }
    }

    /// The shape and elements of a value of floats.
    pub(crate) fn floats(&self, name: &str) -> Option<(Vec<usize>, Cow<'_, [f32]>)> {
        if let Some(tensor) = self.tensor(name) {
            return match tensor.data() {
                TensorData::F32(values) => Some((tensor.shape().to_vec(), values.into())),
                _ => None,
            };
        }
        let quantized = self.quantized(name)?;
        Some((quantized.shape.clone(), quantized.dequantize().into()))
    }

    /// The elements of a list or scalar of integers.
    pub(crate) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        if let Some(known) = self
            .network
            .value(name)
            .and_then(|info| info.integers.as_ref())
        {
            return Some(known.clone());
        }
        match self.tensor(name)?.data() {
            TensorData::I64(values) => Some(values.clone()),
            TensorData::I32(values) => Some(values.iter().map(|&v| v.into()).collect()),
            _ => None,
        }
    }
}
