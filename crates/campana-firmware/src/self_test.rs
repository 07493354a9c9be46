//! The self-test: a program that runs the network on inputs that it makes
//! itself and compares what comes out with what the integer engine gave.

use std::fmt::Write as _;

use campana_ir::graph::Graph;
use campana_runtime::{Plan, PlanOptions, Session};
use campana_tensor::{Tensor, TensorData};

use crate::error::{Error, ErrorKind};
use crate::memory::Firmware;

/// Inputs that are tested.
const VECTORS: usize = 3;

/// The generator of inputs: `state = FACTOR state + TERM` of 32 bits (Knuth, Lewis;
/// in "Numerical Recipes", section 7.1); a code is its upper byte.
const FACTOR: u32 = 1_664_525;
const TERM: u32 = 1_013_904_223;

/// Codes of inputs, 0 to 255, from the generator.
struct Generator(u32);

impl Generator {
    fn code(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(TERM);
        (self.0 >> 24) as u8
    }
}

/// What the integer engine gives for each vector: the bytes of all outputs as
/// the C code has them.
fn expected(graph: &Graph, firmware: &Firmware) -> Result<Vec<Vec<Vec<u8>>>, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let message = "the integer engine cannot run the network";
        Error::new(ErrorKind::InvalidModel, message).with_source(source)
    };
    let plan = Plan::new(graph, PlanOptions::default()).map_err(|error| failed(error.into()))?;
    let session = Session::new(plan, 1);
    let network = &firmware.network;
    let mut generator = Generator(0);
    let mut all = Vec::new();
    for _ in 0..VECTORS {
        let mut inputs = Vec::new();
        for &input in &network.inputs {
            let value = &network.values[input];
            let codes: Vec<u8> = (0..value.len()).map(|_| generator.code()).collect();
            let as_graph = match value.channels_last {
                true => channels_first(&codes, &value.shape),
                false => codes,
            };
            let params = value.codes;
            let floats = as_graph
                .iter()
                .map(|&code| params.map_or(0.0, |params| params.value(code)));
            let tensor = Tensor::new(value.shape.clone(), TensorData::F32(floats.collect()));
            inputs.extend(tensor.map(|tensor| (value.name.as_str(), tensor)));
        }
        let given: Vec<_> = inputs
            .iter()
            .map(|(name, tensor)| (*name, tensor.into()))
            .collect();
        let outputs = session.run(&given).map_err(|error| failed(error.into()))?;
        let bytes = network.outputs.iter().zip(&outputs);
        all.push(
            bytes
                .map(|(&value, found)| stored(firmware, value, found))
                .collect(),
        );
    }
    Ok(all)
}

/// An image with its channels last as the graph has it.
fn channels_first(codes: &[u8], shape: &[usize]) -> Vec<u8> {
    let (channels, pixels) = (shape[1], shape[2..].iter().product::<usize>());
    let places = codes
        .chunks_exact((channels * pixels).max(1))
        .flat_map(|image| {
            (0..channels)
                .flat_map(move |c| (0..pixels).map(move |pixel| image[pixel * channels + c]))
        });
    places.collect()
}

/// An output's bytes as the C code stores them: codes, or floats.
fn stored(firmware: &Firmware, value: usize, found: &Tensor) -> Vec<u8> {
    let value = &firmware.network.values[value];
    let TensorData::F32(floats) = found.data() else {
        return Vec::new();
    };
    if let Some(codes) = value.codes {
        let signed = |&float: &f32| codes.code(float).wrapping_sub(128);
        return floats.iter().map(signed).collect();
    }
    let (shape, mut lying) = (&value.shape, floats.clone());
    if value.channels_last {
        let (channels, pixels) = (shape[1], shape[2..].iter().product::<usize>());
        let images = floats.chunks_exact((channels * pixels).max(1));
        lying = images
            .flat_map(|image| {
                (0..pixels)
                    .flat_map(move |pixel| (0..channels).map(move |c| image[c * pixels + pixel]))
            })
            .collect();
    }
    lying.iter().flat_map(|float| float.to_le_bytes()).collect()
}

/// `NAME_test.c`.
///
/// # Errors
///
/// Where the integer engine cannot run the network.
pub(crate) fn source(graph: &Graph, firmware: &Firmware, name: &str) -> Result<String, Error> {
    let vectors = expected(graph, firmware)?;
    let network = &firmware.network;
    let mut text = format!(
        "/* Written by campana export: runs the network on {VECTORS} inputs and compares the outputs with\n \
         * those of campana's integer engine; exit status 0 where all are equal. */\n\
         #include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n\n#include \"{name}.h\"\n\n\
         static uint32_t state;\n\n\
         static void fill(int8_t *codes, uint32_t count)\n{{\n    uint32_t i;\n    \
         for (i = 0; i < count; i++) {{\n        state = state * UINT32_C({FACTOR}) + UINT32_C({TERM});\n        \
         codes[i] = (int8_t)((int32_t)(state >> 24) - 128);\n    }}\n}}\n\n"
    );
    let mut run = String::new();
    let mut arguments = Vec::new();
    for (at, &input) in network.inputs.iter().enumerate() {
        let len = network.values[input].len();
        let _ = writeln!(text, "static int8_t input_{at}[{len}];");
        let _ = writeln!(run, "        fill(input_{at}, {len});");
        arguments.push(format!("input_{at}"));
    }
    let mut compare = String::new();
    for (at, &output) in network.outputs.iter().enumerate() {
        let value = &network.values[output];
        let (len, bytes) = (value.len(), firmware.value_bytes(output));
        let element = if value.codes.is_some() {
            "int8_t"
        } else {
            "float"
        };
        let all = vectors.iter().flat_map(|outputs| outputs[at].iter());
        let _ = write!(
            text,
            "static {element} output_{at}[{len}];\n\
             static const uint8_t expected_{at}[{VECTORS}][{bytes}] = {{\n{}}};\n",
            super::source::braced(all, bytes)
        );
        let _ = write!(
            compare,
            "        if (memcmp(output_{at}, expected_{at}[vector], {bytes}) != 0) {{\n            \
             printf(\"vector %d: output {at} differs\\n\", vector);\n            failures++;\n        }}\n"
        );
        arguments.push(format!("output_{at}"));
    }
    let arguments = arguments.join(", ");
    let _ = write!(
        text,
        "\nint main(void)\n{{\n    int vector, failures = 0;\n    \
         for (vector = 0; vector < {VECTORS}; vector++) {{\n{run}        \
         if ({name}_run({arguments}) != 0) {{\n            failures++;\n        }}\n{compare}    }}\n    \
         printf(\"{name}: %d of {VECTORS} vectors differ\\n\", failures);\n    return failures != 0;\n}}\n"
    );
    Ok(text)
}
