//! The arena and the run function.

use std::fmt::Write as _;

use super::constants::{constants, signed};
use super::{comment, parameter, signature};
use crate::layer::{Kernel, Layer};
use crate::memory::{Firmware, Place};

/// `NAME.c`.
pub(crate) fn source(firmware: &Firmware, name: &str) -> String {
    let mut text = format!(
        "/* Written by campana export; do not edit. */\n#include \"{name}.h\"\n\n#include <string.h>\n\n\
         #include \"campana_kernels.h\"\n"
    );
    for (at, layer) in firmware.layers.iter().enumerate() {
        let count = firmware.network.values[layer.writes].len();
        let is_first = firmware.layers[..at].iter().all(|l| l.step != layer.step);
        text += &constants(at, layer, count, is_first);
    }
    if firmware.arena_bytes > 0 {
        let words = firmware.arena_bytes.div_ceil(4);
        let _ = write!(
            text,
            "\n/* All values between layers; of words, so that they are aligned. */\n\
             static int32_t arena_words[{words}];\n"
        );
    }
    let _ = write!(text, "\n{}\n{{\n", signature(firmware, name));
    if firmware.arena_bytes > 0 {
        text += "    int8_t *const arena = (int8_t *)arena_words;\n";
    }
    for (at, layer) in firmware.layers.iter().enumerate() {
        let _ = writeln!(text, "    /* {} */", comment(&layer.node));
        text += &call(firmware, at, layer);
    }
    for (at, &value) in firmware.network.outputs.iter().enumerate() {
        if firmware.places[value] != Place::Output(at) {
            let _ = writeln!(
                text,
                "    memcpy({}, {}, {});",
                parameter(firmware, false, at),
                place(firmware, value, 0),
                firmware.value_bytes(value),
            );
        }
    }
    text + "    return 0;\n}\n"
}

/// A pointer to a value, some bytes behind its begin.
fn place(firmware: &Firmware, value: usize, behind: usize) -> String {
    let moved = |name: String, count: usize| match count {
        0 => name,
        count => format!("{name} + {count}"),
    };
    match firmware.places[value] {
        Place::Input(at) => moved(parameter(firmware, true, at), behind),
        Place::Output(at) => {
            let len = firmware.network.values[value].len().max(1);
            let element_bytes = firmware.value_bytes(value) / len;
            moved(
                parameter(firmware, false, at),
                behind / element_bytes.max(1),
            )
        }
        Place::Arena(offset) => arena(offset + behind),
    }
}

fn arena(offset: usize) -> String {
    match offset {
        0 => "arena".to_owned(),
        offset => format!("arena + {offset}"),
    }
}

fn call(firmware: &Firmware, at: usize, layer: &Layer) -> String {
    let reads = layer.reads.iter().zip(&layer.read_offsets);
    let reads: Vec<String> = reads
        .map(|(&read, &offset)| place(firmware, read, offset))
        .collect();
    let output = place(firmware, layer.writes, layer.write_offset);
    let count = firmware.network.values[layer.writes].len();
    match &layer.kernel {
        Kernel::Product(packed) => {
            let kernel = match packed.is_depthwise {
                true => "campana_run_depthwise",
                false => "campana_run_product",
            };
            let residual = reads.get(1).map_or("0", String::as_str);
            let scratch = arena(firmware.scratch[at]);
            let input = &reads[0];
            format!("    {kernel}(&layer_{at}, {input}, {residual}, {output}, {scratch});\n")
        }
        Kernel::Sum(..) => {
            format!(
                "    campana_run_sum(&layer_{at}, {}, {}, {output});\n",
                reads[0], reads[1]
            )
        }
        Kernel::Map(_) => {
            format!(
                "    campana_run_map(layer_{at}, {count}, {}, {output});\n",
                reads[0]
            )
        }
        Kernel::Decode(_) => {
            format!(
                "    campana_run_decode(layer_{at}, {count}, {}, {output});\n",
                reads[0]
            )
        }
        Kernel::MaxPool(_) => {
            format!(
                "    campana_run_max_pool(&layer_{at}, {}, {output});\n",
                reads[0]
            )
        }
        Kernel::Average(..) => {
            format!(
                "    campana_run_average(&layer_{at}, {}, {output});\n",
                reads[0]
            )
        }
        Kernel::Copy { fill, blocks } => {
            let mut text = String::new();
            if let Some(fill) = fill {
                let fill = signed(*fill);
                let _ = writeln!(text, "    campana_run_fill({fill}, {count}, {output});");
            }
            for (i, read) in reads.iter().enumerate() {
                if !blocks[i].dims.contains(&0) {
                    let _ = writeln!(
                        text,
                        "    campana_run_copy(&layer_{at}_{i}, {read}, {output});"
                    );
                }
            }
            text
        }
        Kernel::Combine(_) => format!(
            "    campana_run_combination(&layer_{at}, {}, {}, {output});\n",
            reads[0], reads[1]
        ),
    }
}
