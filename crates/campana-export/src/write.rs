//! A quantized model as ONNX: the parts that changed, everything else copied.

mod activations;
mod decoding;
mod initializers;
mod integers;
mod removal;
mod wiring;

use std::collections::HashSet;
use std::io::Write;

use campana_ir::decoder::encode::are_halves;
use campana_onnx::{Content, DataLocation, Edits, MessageId, Model, schema};
use campana_quantize::{
    ActivationScale, Error, ErrorKind, QuantizedModel, Target, TensorOutcome, quantized_graph,
};
use campana_tensor::ElementType;

use self::decoding::DecoderWriter;
use self::removal::unreadable;
use self::wiring::Wiring;
use crate::external::{DataFile, ExternalOutput, NewValues, Placement, set_external};
use crate::opset;

/// Fields of a tensor that hold its elements or say where they are.
const DATA_FIELDS: [u32; 9] = [
    schema::tensor::FLOAT_DATA,
    schema::tensor::INT32_DATA,
    schema::tensor::STRING_DATA,
    schema::tensor::INT64_DATA,
    schema::tensor::RAW_DATA,
    schema::tensor::DOUBLE_DATA,
    schema::tensor::UINT64_DATA,
    schema::tensor::EXTERNAL_DATA,
    schema::tensor::DATA_LOCATION,
];

/// A model to be written, and the files of external data beside it.
#[derive(Debug)]
pub struct OutputModel<'a> {
    edits: Edits<'a>,
    /// The files beside the model.
    pub data_files: Vec<DataFile<'a>>,
    /// Names of the corrected tensors that are stored in 16 bits, for they lose
    /// nothing there.
    pub halved: Vec<&'a str>,
}

impl<'a> OutputModel<'a> {
    /// A model with its quantized tensors in the ONNX form of `target`, and with its
    /// activations rounded. With no tensor quantized and no activation rounded
    /// it is the input, byte for byte. Codes of 4 bits are `uint4` where the
    /// model's opset has that type, to which [`admit`](crate::admit) raises it.
    ///
    /// # Errors
    ///
    /// Where the target needs another opset than the model's, or reading
    /// fails.
    pub fn new(
        model: &'a Model,
        quantized: &'a QuantizedModel<'a>,
        activations: &[ActivationScale],
        target: Target,
        placement: &Placement,
    ) -> Result<Self, Error> {
        let target = target.onnx_form();
        let mut edits = Edits::new(model);
        let mut wiring = Wiring::new(model);
        let activations = activations::within_range(model, activations);
        let mut float_results = HashSet::new();
        let integers = if target.rounds_activations() && quantized.has_changes() {
            opset::at_least(model, integers::MIN_OPSET)?;
            let network = quantized_graph(model, quantized)?;
            float_results = activations::results_of_float_weights(&network, quantized);
            Some(integers::layers(
                model,
                &network,
                quantized,
                &activations,
                &mut wiring,
            ))
        } else {
            None
        };
        let changed: Vec<_> = quantized
            .tensors
            .iter()
            .filter_map(|outcome| Some((outcome, outcome.quantized.as_ref()?)))
            .collect();
        let corrected: Vec<_> = quantized
            .tensors
            .iter()
            .filter_map(|outcome| Some((outcome, outcome.corrected.as_deref()?)))
            .collect();
        let has_merged = |outcome: &TensorOutcome<'_>| {
            let layers = integers.as_ref();
            layers.is_some_and(|layers| layers.has_merged(outcome.tensor.name))
        };
        let merged = quantized.tensors.iter().filter(|outcome| {
            let is_nested = outcome.tensor.is_nested(model);
            has_merged(outcome) && !is_nested
        });
        let messages: Vec<_> = (changed.iter().map(|(outcome, _)| *outcome))
            .chain(corrected.iter().map(|(outcome, _)| *outcome))
            .chain(merged)
            .map(|outcome| outcome.tensor.proto.message)
            .collect();
        let mut external = ExternalOutput::plan(model, &mut edits, &messages, placement)?;
        let is_decoded = !matches!(target, Target::Int8 | Target::Float) && !changed.is_empty();
        let (parameters, corrected): (Vec<_>, Vec<_>) = corrected
            .into_iter()
            .filter(|(outcome, _)| !has_merged(outcome))
            .partition(|(outcome, values)| {
                is_decoded && !outcome.tensor.is_nested(model) && is_parameter_list(outcome, values)
            });
        for (outcome, values) in corrected {
            let values = NewValues::Given(values);
            replace_data(model, &mut edits, &mut external, outcome, values)?;
        }
        match target {
            _ if changed.is_empty() => {}
            Target::Float => {
                for (outcome, tensor) in changed {
                    let values = NewValues::Decoded(tensor);
                    replace_data(model, &mut edits, &mut external, outcome, values)?;
                }
            }
            Target::Int8 => {
                if let Some(layers) = integers {
                    let mut writer = DecoderWriter::new(model, &mut edits, &[], false)?;
                    layers.write(&mut writer, &mut wiring, &mut edits, quantized);
                    for (outcome, tensor) in &changed {
                        writer.add(outcome, tensor);
                    }
                    writer.write(&mut edits, &mut external, &[]);
                }
            }
            _ => {
                let uint4 = target == Target::LutUint4;
                let (edits, external) = (&mut edits, &mut external);
                let mut writer = DecoderWriter::new(model, edits, &changed, uint4)?;
                if let Some(layers) = integers {
                    layers.write(&mut writer, &mut wiring, edits, quantized);
                }
                for (outcome, tensor) in &changed {
                    writer.add(outcome, tensor);
                }
                writer.write(edits, external, &parameters);
            }
        }
        if !activations.is_empty() {
            opset::at_least(model, activations::MIN_OPSET)?;
            let mut scales = activations;
            if target.rounds_moved() {
                scales.extend(activations::moved(model, &scales));
            }
            activations::add_pairs(model, &mut edits, &scales, &float_results, &mut wiring);
        }
        wiring.apply(&mut edits)?;
        Ok(Self {
            edits,
            data_files: external.into_files(),
            halved: parameters
                .iter()
                .map(|(outcome, _)| outcome.tensor.name)
                .collect(),
        })
    }

    /// The bytes that the model and the files beside it take together.
    ///
    /// # Errors
    ///
    /// As those of [`write`](Self::write).
    pub fn len_bytes(mut self) -> Result<u64, Error> {
        let mut counter = Counter(0);
        for file in std::mem::take(&mut self.data_files) {
            file.write(&mut counter)?;
        }
        self.write(&mut counter)?;
        Ok(counter.0)
    }

    /// Writes the model without the files beside it; returns its length in
    /// bytes.
    ///
    /// # Errors
    ///
    /// Where reading or writing fails, or the model would be larger than ONNX
    /// readers accept.
    pub fn write(self, out: &mut impl Write) -> Result<u64, Error> {
        self.edits
            .write(out)
            .map_err(|error| Error::new(ErrorKind::Io, "cannot write the model").with_source(error))
    }
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same tensor with other values as its data; all its other fields are
/// kept.
fn replace_data<'a>(
    model: &'a Model,
    edits: &mut Edits<'a>,
    external: &mut ExternalOutput<'a>,
    outcome: &TensorOutcome<'_>,
    values: NewValues<'a>,
) -> Result<(), Error> {
    let proto = outcome.tensor.proto;
    let element_type = proto.element_type;
    let len = outcome.report.input_bytes;
    if let Some(place) = external.add_values(proto, values, len) {
        return set_external(model, edits, proto, &place);
    }
    let data = Content::stream(len, move |out| {
        // A block at a time would save memory, at the price of a second
        // decoder; the decoded tensor is as large as the one that was read.
        out.write_all(&values.to_bytes(element_type))
    });
    let data = Content::default().message(schema::tensor::RAW_DATA, data);
    replace_data_fields(model, edits, proto.message, data)
}

/// Puts `data` in the place of all that a tensor's message says of its elements.
pub(crate) fn replace_data_fields<'a>(
    model: &'a Model,
    edits: &mut Edits<'a>,
    tensor: MessageId,
    data: Content<'a>,
) -> Result<(), Error> {
    let mut data = Some(data);
    for run in model.fields(tensor).map_err(unreadable)? {
        if DATA_FIELDS.contains(&run.number) {
            edits.replace_fields(tensor, run.span, data.take().unwrap_or_default());
        }
    }
    if let Some(data) = data {
        edits.append(tensor, data);
    }
    Ok(())
}

/// Whether a corrected tensor is a list of values that 16 bits hold, in the
/// model itself.
fn is_parameter_list(outcome: &TensorOutcome<'_>, values: &[f32]) -> bool {
    let proto = outcome.tensor.proto;
    proto.element_type == ElementType::F32
        && proto.dims.len() == 1
        && !matches!(proto.data, DataLocation::External(_))
        && !values.is_empty()
        && are_halves(values)
}

#[cfg(test)]
mod tests;
