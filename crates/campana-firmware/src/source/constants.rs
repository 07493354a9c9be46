//! What kernels read: `const` arrays and structures.

use std::fmt::Write as _;

use campana_runtime::integer::{Block, Combination, Extents, Pair};

use super::{bits, comment, list};
use crate::fixed::FixedRounding;
use crate::layer::{Kernel, Layer, MAX_AXES, PackedProduct};

/// The constants of a layer, `layer_<at>` and others of that name; the weights of
/// a step, `rows_<step>_...`, with the first of its layers.
pub(super) fn constants(at: usize, layer: &Layer, count: usize, is_first: bool) -> String {
    let name = format!("layer_{at}");
    let title = format!(
        "\n/* {} ({}) */\n",
        comment(&layer.node),
        comment(&layer.op_type)
    );
    let body = match &layer.kernel {
        Kernel::Product(packed) => {
            let rows = format!("rows_{}", layer.step);
            let arrays = if is_first {
                arrays(&rows, packed)
            } else {
                String::new()
            };
            arrays + &product(&name, &rows, packed)
        }
        Kernel::Sum(sum, fixed) => format!(
            "static const campana_sum {name} = {{\n    .count = {count},\n    .multipliers = {{{}, {}}},\n    \
             .offset = {},\n    .tolerance = {},\n    .float_factors = {{{}, {}}},\n    .float_offset = {},\n    \
             .low = {},\n    .high = {},\n    .fraction_bits = {},\n}};\n",
            fixed.multipliers[0],
            fixed.multipliers[1],
            fixed.offset,
            fixed.tolerance,
            bits(sum.factors[0]),
            bits(sum.factors[1]),
            bits(sum.offset),
            sum.bounds[0],
            sum.bounds[1],
            fixed.fraction_bits,
        ),
        Kernel::Map(table) => array("uint8_t", &name, table.iter()),
        Kernel::Decode(table) => array("uint32_t", &name, table.iter().map(|&v| bits(v))),
        Kernel::MaxPool(extents) => format!(
            "static const campana_windows {name} = {};\n",
            windows(extents, "")
        ),
        Kernel::Average(averages, fixed) => {
            let factors = fixed
                .multipliers
                .iter()
                .enumerate()
                .map(|(count, multiplier)| {
                    format!("{{{multiplier}, {}}}", bits(averages.factor(count)))
                });
            let factors = array("campana_mean_factor", &format!("{name}_factors"), factors);
            format!(
                "{factors}static const campana_average {name} = {{\n    .windows = {},\n    \
                 .factors = {name}_factors,\n    .offset = {},\n    .tolerance = {},\n    \
                 .float_offset = {},\n    .zero = {},\n    .sum_shift = {},\n    .fraction_bits = {},\n    \
                 .gives_floats = {},\n}};\n",
                windows(&averages.extents, "    "),
                fixed.offset,
                fixed.tolerance,
                bits(averages.offset()),
                signed(averages.from.zero_point),
                fixed.sum_shift,
                fixed.fraction_bits,
                u8::from(averages.to.is_none()),
            )
        }
        Kernel::Copy { blocks, .. } => {
            let blocks = blocks.iter().enumerate();
            blocks
                .map(|(i, block)| copied(&format!("{name}_{i}"), block))
                .collect()
        }
        Kernel::Combine(combination) => combined(&name, combination),
    };
    title + &body
}

/// A code as it is stored.
pub(super) fn signed(code: u8) -> i32 {
    i32::from(code) - 128
}

fn array<T: std::fmt::Display>(
    element: &str,
    name: &str,
    values: impl ExactSizeIterator<Item = T>,
) -> String {
    let len = values.len();
    format!(
        "static const {element} {name}[{len}] = {{\n{}}};\n",
        list(values)
    )
}

fn windows(extents: &Extents, indent: &str) -> String {
    let pairs = [
        ("input", ["height", "width"], extents.input),
        ("output", ["height", "width"], extents.output),
        ("window", ["height", "width"], extents.window),
        ("stride", ["y", "x"], extents.strides),
        ("dilation", ["y", "x"], extents.dilations),
        ("pad", ["top", "left"], extents.pads_begin),
    ];
    let mut text = format!(
        "{{\n{indent}    .images = {}, .channels = {},\n",
        extents.batch, extents.channels
    );
    for (name, [down, across], [height, width]) in pairs {
        let _ = writeln!(
            text,
            "{indent}    .{name}_{down} = {height}, .{name}_{across} = {width},"
        );
    }
    text + indent + "}"
}

/// Whether the float sums of some channels are biased and of others not.
fn differ(biased: &[bool]) -> bool {
    biased.windows(2).any(|pair| pair[0] != pair[1])
}

/// Weights, and what becomes of the sums of each channel.
fn arrays(rows: &str, packed: &PackedProduct) -> String {
    let mut text = array(
        "uint8_t",
        &format!("{rows}_codes"),
        packed.rows.codes.iter(),
    );
    let levels = &packed.rows.levels;
    if !levels.is_empty() {
        text += &array("int8_t", &format!("{rows}_levels"), levels.iter());
    }
    let channels = packed.rounding.channels.iter().map(|channel| {
        format!(
            "{{{}, {}, {}, {}, {}}}",
            channel.initial,
            channel.multiplier,
            channel.offset,
            bits(channel.float_multiplier),
            bits(channel.float_offset),
        )
    });
    text += &array("campana_channel", &format!("{rows}_channels"), channels);
    let biased = &packed.rounding.biased;
    if differ(biased) {
        let flags = biased.iter().map(|&flag| u8::from(flag));
        text += &array("uint8_t", &format!("{rows}_biased"), flags);
    }
    text
}

fn product(name: &str, rows: &str, packed: &PackedProduct) -> String {
    let levels = match packed.rows.levels.is_empty() {
        // Codes are weights; kernels count levels from some place on all the same.
        true => format!("(const int8_t *){rows}_codes"),
        false => format!("{rows}_levels"),
    };
    let apart = match differ(&packed.rounding.biased) {
        true => format!("{rows}_biased"),
        false => "0".to_owned(),
    };
    let mut text = String::new();
    let product = &packed.product;
    let _ = writeln!(
        text,
        "static const campana_product {name} = {{\n    .windows = {},\n    .filters = {}, .groups = {},\n    \
         .strip_rows = {},\n    .copy_offset = {},\n    .zero = {},\n    .copies_input = {},\n    .gives_floats = {},\n    \
         .weights = {{\n        .codes = {rows}_codes,\n        .levels = {levels},\n        \
         .row_bytes = {},\n        .level_stride = {},\n        .taps = {},\n        .bits = {}, .vector = {},\n    }},\n{}}};",
        windows(&product.extents, "    "),
        product.filters,
        product.groups,
        packed.strip_rows,
        packed.copy_offset(),
        signed(product.input.zero_point),
        u8::from(packed.copies_input),
        u8::from(packed.gives_floats),
        packed.rows.row_bytes,
        packed.rows.level_stride,
        packed.rows.taps,
        packed.rows.bits,
        packed.rows.vector,
        rounding(rows, packed, &packed.rounding, &apart),
    );
    text
}

fn rounding(rows: &str, packed: &PackedProduct, fixed: &FixedRounding, biased: &str) -> String {
    let product = &packed.product;
    let [float_bounds, code_bounds] = match packed.gives_floats {
        true => [
            product.rounding.bounds.map(bits),
            ["0", "0"].map(str::to_owned),
        ],
        false => {
            let codes = product.rounding.bounds.map(|bound| signed(bound as u8));
            [
                ["0", "0"].map(str::to_owned),
                codes.map(|code| code.to_string()),
            ]
        }
    };
    let encoding = product.encoding.map_or([0.0; 2], |encoding| {
        [encoding.inverse_scale, f32::from(encoding.zero_point)]
    });
    format!(
        "    .rounding = {{\n        .channels = {rows}_channels,\n        .biased = {biased},\n        \
         .tolerance = {},\n        .residual_multiplier = {},\n        .float_residual = {},\n        \
         .float_inverse_scale = {}, .float_zero_point = {},\n        \
         .float_low = {}, .float_high = {}, .low = {}, .high = {},\n        .sum_shift = {}, .fraction_bits = {},\n        \
         .is_biased = {},\n    }},\n",
        fixed.tolerance,
        fixed.residual_multiplier,
        bits(product.residual.unwrap_or(0.0)),
        bits(encoding[0]),
        bits(encoding[1]),
        float_bounds[0],
        float_bounds[1],
        code_bounds[0],
        code_bounds[1],
        fixed.sum_shift,
        fixed.fraction_bits,
        u8::from(fixed.biased.first() == Some(&true)),
    )
}

/// Extents or strides with as many axes before them as make all of them.
fn axes<T: std::fmt::Display>(values: &[T], before: &str) -> String {
    let missing = std::iter::repeat_n(before.to_owned(), MAX_AXES - values.len());
    let all: Vec<String> = missing.chain(values.iter().map(T::to_string)).collect();
    format!("{{{}}}", all.join(", "))
}

fn copied(name: &str, block: &Block) -> String {
    format!(
        "static const campana_block {name} = {{\n    .from = {}, .to = {},\n    .extents = {},\n    \
         .from_strides = {},\n    .to_strides = {},\n}};\n",
        block.from,
        block.to,
        axes(&block.dims, "1"),
        axes(&block.from_strides, "0"),
        axes(&block.to_strides, "0"),
    )
}

fn combined(name: &str, combination: &Combination) -> String {
    let mut text = String::new();
    for (side, table) in ["left", "right"].iter().zip(&combination.tables) {
        let floats = table.iter().map(|&value| bits(value));
        text += &array("uint32_t", &format!("{name}_{side}"), floats);
    }
    let function = match combination.function {
        Pair::Add => "CAMPANA_ADD",
        Pair::Sub => "CAMPANA_SUB",
        Pair::Mul => "CAMPANA_MUL",
    };
    let _ = writeln!(
        text,
        "static const campana_combination {name} = {{\n    .tables = {{{name}_left, {name}_right}},\n    \
         .extents = {},\n    .strides = {{{}, {}}},\n    .inverse_scale = {},\n    .zero_point = {},\n    \
         .low = {},\n    .high = {},\n    .function = {function},\n}};",
        axes(&combination.dims, "1"),
        axes(&combination.strides[0], "0"),
        axes(&combination.strides[1], "0"),
        bits(combination.encoding.inverse_scale),
        bits(f32::from(combination.encoding.zero_point)),
        combination.bounds[0],
        combination.bounds[1],
    );
    text
}
