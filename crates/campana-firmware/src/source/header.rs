//! The header: what a caller must know.

use std::fmt::Write as _;

use super::{comment, parameter, signature};
use crate::memory::Firmware;

/// `NAME.h`; the note says what was left out of the network.
pub(crate) fn header(firmware: &Firmware, name: &str, note: Option<&str>) -> String {
    let upper = name.to_uppercase();
    let mut text = "/* Written by campana export; do not edit.\n *\n \
                    * A code q of an input or output stands for the value SCALE * (q - ZERO_POINT).\n \
                    * Codes are int8: those of the model file, where they are uint8, less 128.\n"
        .to_owned();
    if let Some(note) = note {
        let _ = writeln!(text, " * {}", comment(note));
    }
    let _ = write!(
        text,
        " */\n#ifndef {upper}_H\n#define {upper}_H\n\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n"
    );
    for is_input in [true, false] {
        let network = &firmware.network;
        let all = match is_input {
            true => &network.inputs,
            false => &network.outputs,
        };
        for (at, &value) in all.iter().enumerate() {
            let prefix = format!(
                "{upper}_{}",
                parameter(firmware, is_input, at).to_uppercase()
            );
            text += &described(firmware, &prefix, value);
        }
    }
    let _ = write!(
        text,
        "/* Bytes of memory that the network has for itself. */\n#define {upper}_ARENA_BYTES {}\n\n\
         /* Runs the network; gives 0. The arena is the network's own: not to be run twice\n * at a time. */\n{};\n\n\
         #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        firmware.arena_bytes,
        signature(firmware, name),
    );
    text
}

/// An input's or output's shape, elements and parameters.
fn described(firmware: &Firmware, prefix: &str, value: usize) -> String {
    let value = &firmware.network.values[value];
    let mut shape = value.shape.clone();
    let mut order = "as in the graph";
    if value.channels_last && shape.len() > 2 {
        shape[1..].rotate_left(1);
        order = "channels last";
    }
    let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let name = comment(&value.name);
    let mut text = format!(
        "/* '{name}': [{}], {order}. */\n#define {prefix}_LEN {}\n",
        extents.join(", "),
        value.len()
    );
    for (axis, extent) in shape.iter().enumerate() {
        let _ = writeln!(text, "#define {prefix}_EXTENT_{axis} {extent}");
    }
    if let Some(codes) = value.codes {
        let zero_point = i32::from(codes.zero_point) - 128;
        let _ = writeln!(
            text,
            "#define {prefix}_SCALE {:e}f\n#define {prefix}_ZERO_POINT {zero_point}",
            codes.scale
        );
    }
    text + "\n"
}
