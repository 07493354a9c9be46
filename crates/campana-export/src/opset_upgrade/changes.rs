//! The operators that changed between opsets 7 and 21.

use campana_formats::encode_f32;
use campana_onnx::{AttributeValue, DataLocation, NewNode, NewTensor, Node, TensorProto};
use campana_tensor::ElementType;

use super::form::{NewForm, Upgrade, int_list};

/// A change of an operator's form or meaning.
pub(super) struct Change {
    pub(super) op_type: &'static str,
    /// The opset that brought it.
    pub(super) since: i64,
    /// Makes the new form of an old node, or says why there is none.
    pub(super) make: fn(&mut Upgrade<'_>, &Node, &mut NewForm) -> Result<(), String>,
}

const fn change(
    op_type: &'static str,
    since: i64,
    make: fn(&mut Upgrade<'_>, &Node, &mut NewForm) -> Result<(), String>,
) -> Change {
    Change {
        op_type,
        since,
        make,
    }
}

/// In the order of the opsets; several of one operator apply in turn.
pub(super) const CHANGES: &[Change] = &[
    change("BatchNormalization", 9, batch_normalization),
    change("Scan", 9, scan),
    change("Slice", 10, slice),
    change("TopK", 10, top_k),
    change("Upsample", 10, upsample),
    change("Clip", 11, clip),
    change("Pad", 11, pad),
    change("Resize", 11, resize),
    change("Scatter", 11, scatter),
    change("Dropout", 12, dropout),
    change("Hardmax", 13, softmax),
    change("LogSoftmax", 13, softmax),
    change("ReduceSum", 13, axes_to_input),
    change("Resize", 13, resize_of_11),
    change("Softmax", 13, softmax),
    change("Split", 13, split),
    change("Squeeze", 13, axes_to_input),
    change("Unsqueeze", 13, axes_to_input),
    change("RoiAlign", 16, roi_align),
    change("ReduceL1", 18, axes_to_input),
    change("ReduceL2", 18, axes_to_input),
    change("ReduceLogSum", 18, axes_to_input),
    change("ReduceLogSumExp", 18, axes_to_input),
    change("ReduceMax", 18, axes_to_input),
    change("ReduceMean", 18, axes_to_input),
    change("ReduceMin", 18, axes_to_input),
    change("ReduceProd", 18, axes_to_input),
    change("ReduceSumSquare", 18, axes_to_input),
    change("Resize", 18, resize_of_13),
    change("Split", 18, split_of_13),
    change("DFT", 20, dft),
    change("GridSample", 20, grid_sample),
    change("GroupNormalization", 21, group_normalization),
    // Experimental operators, in no set since 2019.
    change("Affine", 10, removed),
    change("ATen", 10, removed),
    change("Crop", 10, removed),
    change("DynamicSlice", 10, removed),
    change("GivenTensorFill", 10, removed),
    change("GRUUnit", 10, removed),
    change("ImageScaler", 10, removed),
    change("ParametricSoftplus", 10, removed),
    change("Scale", 10, removed),
    change("ScaledTanh", 10, removed),
];

fn removed(_: &mut Upgrade<'_>, _: &Node, _: &mut NewForm) -> Result<(), String> {
    Err("the operator was experimental and is in no later opset".to_owned())
}

/// Statistics for each value of a channel were taken out.
fn batch_normalization(_: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    match node.int("spatial") {
        Some(0) => Err("statistics for each place (spatial=0) are in no later opset".to_owned()),
        Some(_) => {
            new.drop_attribute("spatial");
            Ok(())
        }
        None => Ok(()),
    }
}

fn scan(_: &mut Upgrade<'_>, _: &Node, _: &mut NewForm) -> Result<(), String> {
    Err("it had a batch axis before opset 9".to_owned())
}

fn slice(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    for (index, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        new.ints_to_input(upgrade, node, name, index);
    }
    Ok(())
}

fn top_k(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    let count = node.int("k").ok_or("it has no attribute k")?;
    new.drop_attribute("k");
    new.constant_input(upgrade, 1, int_list(&[count]));
    Ok(())
}

/// Upsample became Resize, which places samples by other rules unless told.
fn upsample(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    if let Some(AttributeValue::Floats(scales)) = node.attribute("scales").map(|a| &a.value) {
        new.drop_attribute("scales");
        new.constant_input(upgrade, 2, float_list(scales));
    } else {
        let scales = node.inputs.get(1).cloned().ok_or("it has no scales")?;
        new.set_input(2, scales);
    }
    new.set_input(1, String::new());
    new.op_type = "Resize".to_owned();
    if upgrade
        .string(node, "mode")
        .is_some_and(|mode| mode == "bilinear")
    {
        new.set("mode", "linear");
    }
    new.set("coordinate_transformation_mode", "asymmetric");
    new.set("nearest_mode", "floor");
    Ok(())
}

/// Samples lay as in Upsample; the nearest was the lower one where the image
/// grows and the upper one where it shrinks.
fn resize(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    let scales = node.inputs.get(1).cloned().ok_or("it has no scales")?;
    let is_nearest = upgrade
        .string(node, "mode")
        .is_none_or(|mode| mode == "nearest");
    let nearest = if is_nearest {
        let values = floats_of(upgrade, &scales).ok_or("its scales are no constant")?;
        if values.iter().all(|&scale| scale >= 1.0) {
            "floor"
        } else if values.iter().all(|&scale| scale <= 1.0) {
            "ceil"
        } else {
            return Err("it grows along one axis and shrinks along another".to_owned());
        }
    } else {
        "floor"
    };
    new.set_input(2, scales);
    new.set_input(1, String::new());
    new.set("coordinate_transformation_mode", "asymmetric");
    new.set("nearest_mode", nearest);
    Ok(())
}

/// One way to place samples was taken out.
fn resize_of_11(upgrade: &mut Upgrade<'_>, node: &Node, _: &mut NewForm) -> Result<(), String> {
    match upgrade.string(node, "coordinate_transformation_mode") {
        Some(mode) if mode == "tf_half_pixel_for_nn" => {
            Err(format!("its mode '{mode}' is in no later opset"))
        }
        _ => Ok(()),
    }
}

fn scatter(_: &mut Upgrade<'_>, _: &Node, new: &mut NewForm) -> Result<(), String> {
    new.op_type = "ScatterElements".to_owned();
    new.is_changed = true;
    Ok(())
}

fn clip(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    for (index, name) in [(1, "min"), (2, "max")] {
        if let Some(AttributeValue::Float(bound)) = node.attribute(name).map(|a| &a.value) {
            let scalar = scalar(*bound, upgrade.float_type()?)?;
            new.drop_attribute(name);
            new.constant_input(upgrade, index, scalar);
        }
    }
    Ok(())
}

fn pad(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    new.ints_to_input(upgrade, node, "pads", 1);
    if let Some(AttributeValue::Float(value)) = node.attribute("value").map(|a| &a.value) {
        let value = *value;
        new.drop_attribute("value");
        // Zero is the default.
        if value != 0.0 {
            let scalar = scalar(value, upgrade.float_type()?)?;
            new.constant_input(upgrade, 2, scalar);
        }
    }
    Ok(())
}

/// In inference the operator is the identity; its mask became bool.
fn dropout(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    if node.attribute("ratio").is_some() {
        new.drop_attribute("ratio");
    }
    if let Some(mask) = node.outputs.get(1).filter(|name| !name.is_empty())
        && upgrade.from < 10
    {
        if upgrade.is_read(mask) {
            return Err("its mask is read, which is bool in later opsets".to_owned());
        }
        new.outputs.truncate(1);
        new.is_changed = true;
    }
    Ok(())
}

fn axes_to_input(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    new.ints_to_input(upgrade, node, "axes", 1);
    Ok(())
}

fn split(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    new.ints_to_input(upgrade, node, "split", 1);
    Ok(())
}

/// The operator went over all axes from this one on, and goes over one: the
/// same where it is the last.
///
/// ```text
/// x -> Flatten(axis) -> Softmax(-1) -> Reshape(shape of x)
/// ```
fn softmax(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    let axis = node.int("axis").unwrap_or(1);
    let input = node.inputs.first().ok_or("it has no input")?;
    let is_last = match upgrade.ranks.of_value(input) {
        Some(rank) => axis == -1 || axis == rank as i64 - 1,
        None => axis == -1,
    };
    new.set("axis", -1);
    if is_last {
        return Ok(());
    }
    let [shape, rows, made] = [(); 3].map(|()| upgrade.fresh());
    new.add_before(NewNode::new("Shape", [input], [&shape]));
    new.add_before(NewNode::new("Flatten", [input], [&rows]).attribute("axis", axis));
    new.set_input(0, rows);
    let outputs = std::mem::replace(&mut new.outputs, vec![made.clone()]);
    new.add_after(NewNode::new("Reshape", [&made, &shape], outputs));
    Ok(())
}

/// Half-pixel centres became the default.
fn roi_align(_: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    const MODE: &str = "coordinate_transformation_mode";
    if node.attribute(MODE).is_none() {
        new.set(MODE, "output_half_pixel");
    }
    Ok(())
}

/// Scales beside sizes have to be absent, where an empty list did before. What
/// was added has defaults that keep the meaning.
fn resize_of_13(upgrade: &mut Upgrade<'_>, _: &Node, new: &mut NewForm) -> Result<(), String> {
    let is_given = |name: &String| !name.is_empty();
    if let [_, _, scales, sizes] = &*new.inputs
        && is_given(scales)
        && is_given(sizes)
        && floats_of(upgrade, scales).is_some_and(|scales| scales.is_empty())
    {
        new.set_input(2, String::new());
    }
    Ok(())
}

/// Equal parts have to be counted.
fn split_of_13(_: &mut Upgrade<'_>, _: &Node, new: &mut NewForm) -> Result<(), String> {
    if new.inputs.get(1).is_none_or(String::is_empty) {
        let parts = new.outputs.len() as i64;
        new.set("num_outputs", parts);
    }
    Ok(())
}

/// The axis became an input, with another default.
fn dft(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    let axis = node.int("axis").unwrap_or(1);
    new.drop_attribute("axis");
    let bytes = axis.to_le_bytes().to_vec();
    new.constant_input(upgrade, 2, NewTensor::raw("", &[], ElementType::I64, bytes));
    Ok(())
}

/// Two modes have other names.
fn grid_sample(upgrade: &mut Upgrade<'_>, node: &Node, new: &mut NewForm) -> Result<(), String> {
    match upgrade.string(node, "mode").as_deref() {
        Some("bilinear") => new.set("mode", "linear"),
        Some("bicubic") => new.set("mode", "cubic"),
        _ => {}
    }
    Ok(())
}

fn group_normalization(_: &mut Upgrade<'_>, _: &Node, _: &mut NewForm) -> Result<(), String> {
    Err("its scale and bias were for groups, and are for channels".to_owned())
}

fn float_list(values: &[f32]) -> NewTensor<'static> {
    NewTensor::raw(
        "",
        &[values.len()],
        ElementType::F32,
        encode_f32(values, ElementType::F32),
    )
}

fn scalar(value: f32, kind: ElementType) -> Result<NewTensor<'static>, String> {
    if kind == ElementType::F64 {
        return Err("it has a bound in float64".to_owned());
    }
    Ok(NewTensor::raw("", &[], kind, encode_f32(&[value], kind)))
}

/// The values of a constant.
fn floats_of(upgrade: &Upgrade<'_>, name: &str) -> Option<Vec<f32>> {
    let graphs = upgrade.model.graphs();
    let tensor = graphs.into_iter().find_map(|graph| constant(graph, name))?;
    if matches!(tensor.data, DataLocation::Absent) {
        return None;
    }
    upgrade.model.read_f32(tensor).ok()
}

fn constant<'m>(graph: &'m campana_onnx::Graph, name: &str) -> Option<&'m TensorProto> {
    let stored = graph.initializers.iter().find(|tensor| tensor.name == name);
    stored.or_else(|| {
        let mut nodes = graph.nodes.iter();
        let node = nodes.find(|node| node.op_type == "Constant" && node.outputs == [name])?;
        match &node.attribute("value")?.value {
            AttributeValue::Tensor(tensor) => Some(&**tensor),
            _ => None,
        }
    })
}
