//! The kernels that are copied along: those that the network needs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::file::File;
use crate::layer::{DEPTHWISE_CHANNELS, Kernel};
use crate::memory::Firmware;

macro_rules! kernel_files {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../c/", $name)))),*]
    };
}

/// Files that every network needs.
const BASE: [(&str, &str); 5] = kernel_files!(
    "campana_kernels.h",
    "campana_rounding.h",
    "campana_rounding.c",
    "campana_float.h",
    "campana_float.c"
);

const WEIGHTS: [(&str, &str); 2] = kernel_files!("campana_weights.h", "campana_weights.c");
const PRODUCT: [(&str, &str); 3] =
    kernel_files!("campana_product.c", "campana_dot.h", "campana_dot.c");
const DEPTHWISE: [(&str, &str); 1] = kernel_files!("campana_depthwise.c");
const ELEMENTWISE: [(&str, &str); 1] = kernel_files!("campana_elementwise.c");
const POOL: [(&str, &str); 1] = kernel_files!("campana_pool.c");
const COPY: [(&str, &str); 1] = kernel_files!("campana_copy.c");

/// The files of the kernels of a network, and `campana_config.h`, which says
/// what of them is compiled.
pub(crate) fn files(firmware: &Firmware) -> Vec<File> {
    let mut needed: BTreeSet<(&str, &str)> = BASE.into_iter().collect();
    let mut macros: BTreeSet<&str> = BTreeSet::new();
    let mut depthwise_taps = 0;
    for layer in &firmware.layers {
        match &layer.kernel {
            Kernel::Product(packed) => {
                needed.extend(WEIGHTS);
                if packed.is_depthwise {
                    needed.extend(DEPTHWISE);
                    depthwise_taps = depthwise_taps.max(packed.row_len());
                } else {
                    needed.extend(PRODUCT);
                }
                macros.extend(bits_macro(packed.rows.bits));
            }
            Kernel::Copy { .. } => needed.extend(COPY),
            Kernel::MaxPool(_) => {
                needed.extend(POOL);
                macros.insert("CAMPANA_HAS_MAX_POOL");
            }
            Kernel::Average(..) => {
                needed.extend(POOL);
                macros.insert("CAMPANA_HAS_AVERAGE");
            }
            elementwise => {
                needed.extend(ELEMENTWISE);
                macros.extend(elementwise_macro(elementwise));
            }
        }
    }
    let mut config = String::from(
        "/* Written by campana export: what this network needs of the kernels. */\n\
         #ifndef CAMPANA_CONFIG_H\n#define CAMPANA_CONFIG_H\n\n",
    );
    for name in macros {
        let _ = writeln!(config, "#define {name}");
    }
    if depthwise_taps > 0 {
        let _ = writeln!(config, "#define CAMPANA_DEPTHWISE_TAPS {depthwise_taps}");
        let _ = writeln!(
            config,
            "#define CAMPANA_DEPTHWISE_CHANNELS {DEPTHWISE_CHANNELS}"
        );
    }
    config += "\n#endif\n";
    let kernels = needed.into_iter().map(|(name, text)| File {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    let config = File {
        name: "campana_config.h".to_owned(),
        text: config,
    };
    kernels.chain([config]).collect()
}

fn bits_macro(bits: u8) -> Option<&'static str> {
    match bits {
        8 => None,
        0 => Some("CAMPANA_HAS_VECTORS"),
        4 => Some("CAMPANA_HAS_4_BITS"),
        2 => Some("CAMPANA_HAS_2_BITS"),
        _ => Some("CAMPANA_HAS_OTHER_BITS"),
    }
}

fn elementwise_macro(kernel: &Kernel) -> Option<&'static str> {
    match kernel {
        Kernel::Sum(..) => Some("CAMPANA_HAS_SUM"),
        Kernel::Map(_) => Some("CAMPANA_HAS_MAP"),
        Kernel::Decode(_) => Some("CAMPANA_HAS_DECODE"),
        Kernel::Combine(_) => Some("CAMPANA_HAS_COMBINATION"),
        _ => None,
    }
}
