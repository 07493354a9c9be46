//! The decoder of a quantized tensor as standard ONNX operators: what turns
//! codes and levels back into the float tensor that a layer reads.
//!
//! ```text
//! codes (uint8) -> Cast -> Gather(byte table) -> Reshape -> [Add offset]
//!     -> Gather(levels) -> [Add shift] -> [Mul scale * unit] -> weight
//! ```
//!
//! Codes that are digits of a byte need one lookup in a table of shape
//! `[256, codes per byte]`; bit planes look up the bits of each byte and sum
//! them with the weights 1, 2, 4, ...: `Gather -> Mul -> ReduceSum`. Tables,
//! shapes and factors that several tensors need are stored once. All results
//! are exact: integers below 2^24 and the single float operations that
//! [`QuantizedTensor::dequantize`] rounds in the same order.
//!
//! Names are short, since each is stored two to four times: the tensor N has
//! its codes in `qN`, its scales in `qN.s` and shifts in `qN.t`; what may be
//! shared is `q.l` (levels), `q.o` (offsets), `q.b` (byte tables), `q.d`
//! (shapes), `q.f` (factors) and `q.u` (units of scales) with letters that
//! count them; what is computed on the way is `qa`, `qb`, ...

mod parameters;

use std::collections::{BTreeMap, BTreeSet};

use campana_codebook::{Packing, QuantizedTensor, Storage, offset_len_bytes};
use campana_tensor::ElementType;

/// A tensor that the decoder stores.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Name of the tensor.
    pub name: String,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// Type of the elements.
    pub element_type: ElementType,
    /// The elements, row-major, little-endian; 4-bit ones two a byte.
    pub data: Vec<u8>,
}

/// An operator of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// ONNX's name of the operator.
    pub op_type: &'static str,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// Value of an operator's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// A list of whole numbers.
    Ints(Vec<i64>),
}

/// Whether all values are what float16 can hold, so that
/// [`Decoder::add_parameters`] gives them back exactly.
pub fn are_halves(values: &[f32]) -> bool {
    values
        .iter()
        .all(|&value| Storage::F16.round(value).to_bits() == value.to_bits())
}

/// Scales that a decoder makes, for DequantizeLinear.
#[derive(Clone, Debug)]
pub struct Scales {
    value: String,
    count: usize,
    /// The axis along which they lie; `None` where there is one.
    axis: Option<usize>,
}

/// Decoders of all quantized tensors of one graph, in topological order.
#[derive(Debug)]
pub struct Decoder {
    /// The operators, each after those that make its inputs.
    pub operators: Vec<Operator>,
    /// The tensors they read.
    pub tensors: Vec<StoredTensor>,
    prefix: String,
    opset: i64,
    uint4: bool,
    /// Names of tensors and values that several decoders share, by content.
    shared: BTreeMap<Vec<u8>, String>,
    /// What shared operators make: values for decoders of all graphs.
    shared_values: BTreeSet<String>,
    count: usize,
    /// Number of values that were named.
    values: usize,
}

impl Decoder {
    /// An empty decoder for a graph of this opset, which must be at least
    /// [`MIN_OPSET`](Self::MIN_OPSET). All names it makes begin with `prefix`.
    /// With `uint4`, codes of 9 to 16 levels are stored as `uint4` tensors,
    /// which needs opset 21.
    pub fn new(prefix: String, opset: i64, uint4: bool) -> Self {
        Self {
            operators: Vec::new(),
            tensors: Vec::new(),
            prefix,
            opset,
            uint4,
            shared: BTreeMap::new(),
            shared_values: BTreeSet::new(),
            count: 0,
            values: 0,
        }
    }

    /// The oldest opset whose operators can decode: multi-directional
    /// broadcasting came with 7.
    pub const MIN_OPSET: i64 = 7;

    /// The oldest opset with `uint4` tensors.
    pub const MIN_OPSET_UINT4: i64 = 21;

    /// Adds the operators and tensors that make the value `name`, of this
    /// element type, out of a quantized tensor; returns the name under which
    /// the codes are stored.
    pub fn add(
        &mut self,
        tensor: &QuantizedTensor,
        name: &str,
        element_type: ElementType,
    ) -> String {
        let id = format!("{}{}", self.prefix, self.count);
        self.count += 1;
        let layout = Layout::of(tensor);
        let first = self.operators.len();

        let value = self.add_levels(tensor, &layout, &id);
        let value = self.add_affine(tensor, &layout, &id, value);
        let value = if layout.view == layout.shape {
            value
        } else {
            let shape = self.shared_shape(&to_i64(&layout.shape));
            self.operator("Reshape", vec![value, shape], vec![])
        };
        let value = if element_type == ElementType::F32 {
            value
        } else {
            self.cast(value, element_type)
        };
        // The last operator makes the tensor itself.
        let last = self.operators[first..]
            .iter_mut()
            .rev()
            .find(|op| op.outputs == [value.as_str()]);
        if let Some(last) = last {
            last.outputs = vec![name.to_owned()];
        }
        id
    }

    /// Adds the operators and tensors that make the value `name` out of a
    /// tensor of integer levels with these scales: up to the scale they stay
    /// integers, so that a runtime that computes on integers finds 8-bit weights
    /// behind a DequantizeLinear.
    /// Needs opset 13. Returns the name under which the codes are stored.
    ///
    /// ```text
    /// codes -> .. -> Gather(levels as int8) -> DequantizeLinear(scales, axis) -> weight
    /// codes -> .. -> Gather(levels as int32) -> Add shift -> Cast(int8) -> ..
    /// ```
    pub fn add_integers(
        &mut self,
        tensor: &QuantizedTensor,
        name: &str,
        scales: &Scales,
    ) -> String {
        let id = format!("{}{}", self.prefix, self.count);
        self.count += 1;
        let layout = Layout::of(tensor);
        let codes = self.add_positions(tensor, &layout, &id);
        let data = Storage::I8.encode(tensor.tables.values());
        let dims = vec![tensor.tables.values().len()];
        let levels = self.shared_tensor("l", dims, ElementType::I8, data);
        let integers = match &tensor.shift {
            None => self.gather(levels, codes),
            Some((shift, _)) => {
                let levels = self.shared_cast(levels, ElementType::I32);
                let value = self.gather(levels, codes);
                let data = Storage::I8.encode(shift);
                let dims = layout.groups.clone();
                let (stored, wanted) = (ElementType::I8, ElementType::I32);
                let shift = self.widened("t", dims, stored, data, wanted, &id);
                let value = self.operator("Add", vec![value, shift], vec![]);
                self.cast(value, ElementType::I8)
            }
        };
        self.dequantize(integers, ElementType::I8, scales, name);
        id
    }

    /// Adds a tensor of integers and what makes it the value `name`. Needs
    /// opset 13.
    pub fn add_dequantized(&mut self, integers: StoredTensor, scales: &Scales, name: &str) {
        let (stored, element_type) = (integers.name.clone(), integers.element_type);
        self.tensors.push(integers);
        self.dequantize(stored, element_type, scales, name);
    }

    /// Scales as `float32`, stored in half as many bits where that is exact:
    /// one, or one for each index along `axis`.
    pub fn scales(&mut self, scales: &[f32], axis: Option<usize>) -> Scales {
        let dims = axis.map_or(Vec::new(), |_| vec![scales.len()]);
        let value = if are_halves(scales) {
            let data = Storage::F16.encode(scales);
            let stored = self.shared_tensor("s", dims, ElementType::F16, data);
            self.shared_cast(stored, ElementType::F32)
        } else {
            let data = Storage::F32.encode(scales);
            self.shared_tensor("s", dims, ElementType::F32, data)
        };
        Scales {
            value,
            count: scales.len(),
            axis,
        }
    }

    /// Scales times one factor, along the first axis.
    pub fn scaled(&mut self, scales: &Scales, factor: f32) -> Scales {
        let data = factor.to_le_bytes().to_vec();
        let factor = self.shared_tensor("u", vec![], ElementType::F32, data);
        Scales {
            value: self.operator("Mul", vec![scales.value.clone(), factor], vec![]),
            count: scales.count,
            axis: Some(0),
        }
    }

    fn dequantize(
        &mut self,
        integers: String,
        element_type: ElementType,
        scales: &Scales,
        name: &str,
    ) {
        let mut inputs = vec![integers, scales.value.clone()];
        // Weights have zero points, which older runtimes ask for.
        if element_type == ElementType::I8 {
            let dims = scales.axis.map_or(Vec::new(), |_| vec![scales.count]);
            let zeros = vec![0; scales.count];
            inputs.push(self.shared_tensor("z", dims, element_type, zeros));
        }
        let axis = scales
            .axis
            .map(|axis| ("axis", Attribute::Int(axis as i64)));
        self.operator("DequantizeLinear", inputs, axis.into_iter().collect());
        if let Some(last) = self.operators.last_mut() {
            last.outputs = vec![name.to_owned()];
        }
    }

    /// The level of each code, in the layout's view.
    fn add_levels(&mut self, tensor: &QuantizedTensor, layout: &Layout, id: &str) -> String {
        let codes = self.add_positions(tensor, layout, id);
        let levels = self.level_table(tensor);
        self.gather(levels, codes)
    }

    /// Where the level of each code is among the tables, in the layout's view.
    fn add_positions(&mut self, tensor: &QuantizedTensor, layout: &Layout, id: &str) -> String {
        let mut codes = self.add_codes(tensor, layout, id);
        if let Some(table_of_group) = &tensor.table_of_group {
            let levels = tensor.tables.levels();
            let offsets: Vec<u32> = table_of_group
                .iter()
                .map(|&table| u32::from(table) * levels as u32)
                .collect();
            let offsets = self.offsets(&offsets, tensor, layout);
            codes = self.operator("Add", vec![codes, offsets], vec![]);
        }
        codes
    }

    /// The codes as `int32`, in the layout's view.
    fn add_codes(&mut self, tensor: &QuantizedTensor, layout: &Layout, id: &str) -> String {
        if self.stores_uint4(tensor) {
            self.tensors.push(StoredTensor {
                name: id.to_owned(),
                dims: layout.view.clone(),
                element_type: ElementType::U4,
                data: tensor.packed.clone(),
            });
            return self.cast(id.to_owned(), ElementType::I32);
        }
        match &tensor.packing {
            Packing::Digits { per_byte: 1, .. } => {
                self.stored_codes(tensor, layout.view.clone(), id)
            }
            packing @ (Packing::Digits { .. } | Packing::Vectors(_)) => {
                let bytes = self.stored_codes(tensor, vec![tensor.packed.len()], id);
                let table = self.byte_table(packing);
                let codes = self.gather(table, bytes);
                self.fit(codes, tensor, layout)
            }
            packing => {
                let planes = packing.planes();
                let plane_len = packing.plane_len_bytes(tensor.partition.len());
                let bytes = self.stored_codes(tensor, vec![planes, plane_len], id);
                let table = self.byte_table(packing);
                let bits = self.gather(table, bytes);
                let factors = (0..planes)
                    .flat_map(|plane| (1i32 << plane).to_le_bytes())
                    .collect();
                let factors =
                    self.shared_tensor("f", vec![planes, 1, 1], ElementType::I32, factors);
                let weighted = self.operator("Mul", vec![bits, factors], vec![]);
                let codes = self.sum_first_axis(weighted);
                self.fit(codes, tensor, layout)
            }
        }
    }

    /// The packed bytes, stored in this shape, as `int32`.
    fn stored_codes(&mut self, tensor: &QuantizedTensor, dims: Vec<usize>, id: &str) -> String {
        self.tensors.push(StoredTensor {
            name: id.to_owned(),
            dims,
            element_type: ElementType::U8,
            data: tensor.packed.clone(),
        });
        self.cast(id.to_owned(), ElementType::I32)
    }

    fn stores_uint4(&self, tensor: &QuantizedTensor) -> bool {
        self.uint4 && matches!(tensor.packing, Packing::Digits { base: 16, .. })
    }

    /// What the bytes hold, without the last byte's padding, in the layout's
    /// view.
    fn fit(&mut self, value: String, tensor: &QuantizedTensor, layout: &Layout) -> String {
        let count = tensor.partition.len();
        let slots = tensor.packing.plane_len_bytes(count) * tensor.packing.codes_per_byte();
        let mut value = value;
        if slots != count {
            let flat = self.shared_shape(&[-1]);
            value = self.operator("Reshape", vec![value, flat], vec![]);
            value = self.take(value, count as i64);
            if layout.view == [count] {
                return value;
            }
        }
        let shape = self.shared_shape(&to_i64(&layout.view));
        self.operator("Reshape", vec![value, shape], vec![])
    }

    /// The first `count` elements.
    fn take(&mut self, value: String, count: i64) -> String {
        if self.opset < 10 {
            let attributes = vec![
                ("starts", Attribute::Ints(vec![0])),
                ("ends", Attribute::Ints(vec![count])),
            ];
            return self.operator("Slice", vec![value], attributes);
        }
        let start = self.shared_shape(&[0]);
        let end = self.shared_shape(&[count]);
        self.operator("Slice", vec![value, start, end], vec![])
    }

    fn sum_first_axis(&mut self, value: String) -> String {
        let mut attributes = vec![("keepdims", Attribute::Int(0))];
        if self.opset < 13 {
            attributes.push(("axes", Attribute::Ints(vec![0])));
            return self.operator("ReduceSum", vec![value], attributes);
        }
        let axes = self.shared_shape(&[0]);
        self.operator("ReduceSum", vec![value, axes], attributes)
    }

    /// Table offsets of the groups as `int32`, to be broadcast to the view. Layers
    /// of as many channels, each with a table of its own, share them.
    fn offsets(&mut self, offsets: &[u32], tensor: &QuantizedTensor, layout: &Layout) -> String {
        let width = offset_len_bytes(tensor.tables.count(), tensor.tables.levels());
        let element_type = match width {
            1 => ElementType::U8,
            2 => ElementType::U16,
            _ => ElementType::I32,
        };
        let data = offsets
            .iter()
            .flat_map(|offset| offset.to_le_bytes()[..width].to_vec())
            .collect();
        let stored = self.shared_tensor("o", layout.groups.clone(), element_type, data);
        if element_type == ElementType::I32 {
            return stored;
        }
        self.shared_cast(stored, ElementType::I32)
    }

    /// The level tables, one after another, as `float32`.
    fn level_table(&mut self, tensor: &QuantizedTensor) -> String {
        let storage = tensor.tables.storage();
        let data = storage.encode(tensor.tables.values());
        let dims = vec![tensor.tables.values().len()];
        let stored = self.shared_tensor("l", dims, element_type_of(storage), data);
        if storage == Storage::F32 {
            return stored;
        }
        self.shared_cast(stored, ElementType::F32)
    }

    fn add_affine(
        &mut self,
        tensor: &QuantizedTensor,
        layout: &Layout,
        id: &str,
        value: String,
    ) -> String {
        let mut value = value;
        if let Some(shift) = &tensor.shift {
            let shift = self.parameter("t", shift, layout, id);
            value = self.operator("Add", vec![value, shift], vec![]);
        }
        if let Some(scale) = &tensor.scale {
            let mut scale = self.parameter("s", scale, layout, id);
            if let Some(unit) = tensor.scale_unit {
                let unit =
                    self.shared_tensor("u", vec![], ElementType::F32, unit.to_le_bytes().to_vec());
                scale = self.operator("Mul", vec![scale, unit], vec![]);
            }
            value = self.operator("Mul", vec![value, scale], vec![]);
        }
        value
    }

    /// One value a group, as `float32`, to be broadcast to the view.
    fn parameter(
        &mut self,
        what: &str,
        (values, storage): &(Vec<f32>, Storage),
        layout: &Layout,
        id: &str,
    ) -> String {
        self.widened(
            what,
            layout.groups.clone(),
            element_type_of(*storage),
            storage.encode(values),
            ElementType::F32,
            id,
        )
    }

    /// A stored tensor of one decoder, cast to a wider type where it is not
    /// of that type.
    fn widened(
        &mut self,
        what: &str,
        dims: Vec<usize>,
        stored: ElementType,
        data: Vec<u8>,
        wanted: ElementType,
        id: &str,
    ) -> String {
        let name = format!("{id}.{what}");
        self.tensors.push(StoredTensor {
            name: name.clone(),
            dims,
            element_type: stored,
            data,
        });
        if stored == wanted {
            name
        } else {
            self.cast(name, wanted)
        }
    }

    /// Adds what all tensors of a packing share.
    pub(super) fn share_byte_table(&mut self, packing: &Packing) {
        if packing.codes_per_byte() > 1 {
            self.byte_table(packing);
        }
    }

    /// What each byte holds, as `int32`: stored as bytes and cast once.
    fn byte_table(&mut self, packing: &Packing) -> String {
        let dims = vec![256, packing.codes_per_byte()];
        let stored = self.shared_tensor("b", dims, ElementType::U8, packing.byte_table());
        self.shared_cast(stored, ElementType::I32)
    }

    fn shared_shape(&mut self, dims: &[i64]) -> String {
        let data = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        self.shared_tensor("d", vec![dims.len()], ElementType::I64, data)
    }

    /// A tensor that is stored once, whoever asks for this content.
    fn shared_tensor(
        &mut self,
        what: &str,
        dims: Vec<usize>,
        element_type: ElementType,
        data: Vec<u8>,
    ) -> String {
        let mut key = element_type.to_onnx().to_le_bytes().to_vec();
        key.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        key.extend(&data);
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = format!("{}.{what}{}", self.prefix, letters(self.shared.len()));
        self.shared.insert(key, name.clone());
        self.tensors.push(StoredTensor {
            name: name.clone(),
            dims,
            element_type,
            data,
        });
        name
    }

    /// A cast that is done once, whoever asks for it.
    fn shared_cast(&mut self, value: String, to: ElementType) -> String {
        let mut key = b"cast ".to_vec();
        key.extend(value.as_bytes());
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = self.cast(value, to);
        self.shared.insert(key, name.clone());
        self.shared_values.insert(name.clone());
        name
    }

    /// Takes out the operators from `first` on that are of one tensor alone:
    /// those of a graph inside of a node stand there, where the tensor was.
    pub fn take_unshared(&mut self, first: usize) -> Vec<Operator> {
        let added = self.operators.split_off(first);
        let is_shared = |operator: &Operator| {
            let mut outputs = operator.outputs.iter();
            outputs.any(|output| self.shared_values.contains(output))
        };
        let (shared, own) = added.into_iter().partition(is_shared);
        self.operators.extend::<Vec<_>>(shared);
        own
    }

    fn cast(&mut self, value: String, to: ElementType) -> String {
        let to = Attribute::Int(i64::from(to.to_onnx()));
        self.operator("Cast", vec![value], vec![("to", to)])
    }

    fn gather(&mut self, table: String, positions: String) -> String {
        self.operator("Gather", vec![table, positions], vec![])
    }

    fn operator(
        &mut self,
        op_type: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = format!("{}{}", self.prefix, letters(self.values));
        self.values += 1;
        self.operators.push(Operator {
            op_type,
            inputs,
            outputs: vec![output.clone()],
            attributes,
        });
        output
    }
}

/// The shape in which codes meet the parameters of their groups.
struct Layout {
    shape: Vec<usize>,
    view: Vec<usize>,
    /// Extents of a parameter with one value a group, broadcast to the view.
    groups: Vec<usize>,
}

impl Layout {
    fn of(tensor: &QuantizedTensor) -> Self {
        let shape = tensor.shape.clone();
        let [
            outer_blocks,
            outer_block,
            channels,
            inner_blocks,
            inner_block,
        ] = tensor.partition.extents();
        if tensor.partition.group_count() == 1 {
            return Self {
                view: shape.clone(),
                shape,
                groups: vec![],
            };
        }
        if outer_blocks == 1 && inner_blocks == 1 {
            // One value a channel, broadcast against the tensor's own shape.
            let axis = (0..tensor.shape.len()).find(|&axis| {
                tensor.shape[axis] == channels
                    && tensor.shape[..axis].iter().product::<usize>() == outer_block
            });
            if let Some(axis) = axis {
                let mut groups = vec![1; shape.len() - axis];
                groups[0] = channels;
                return Self {
                    view: shape.clone(),
                    shape,
                    groups,
                };
            }
        }
        let axes = [
            (outer_blocks, true),
            (outer_block, false),
            (channels, true),
            (inner_blocks, true),
            (inner_block, false),
        ];
        let axes: Vec<_> = axes
            .into_iter()
            .filter(|&(extent, _)| extent != 1)
            .collect();
        Self {
            shape,
            view: axes.iter().map(|&(extent, _)| extent).collect(),
            groups: axes
                .iter()
                .map(|&(extent, group)| if group { extent } else { 1 })
                .collect(),
        }
    }
}

/// a, b, ..., z, aa, ab, ...: shorter than digits.
fn letters(mut number: usize) -> String {
    let mut text = Vec::new();
    loop {
        text.push(b'a' + (number % 26) as u8);
        if number < 26 {
            break;
        }
        number = number / 26 - 1;
    }
    text.iter()
        .rev()
        .map(|&letter| char::from(letter))
        .collect()
}

fn to_i64(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&dim| dim as i64).collect()
}

fn element_type_of(storage: Storage) -> ElementType {
    match storage {
        Storage::F16 => ElementType::F16,
        Storage::I8 => ElementType::I8,
        _ => ElementType::F32,
    }
}

#[cfg(test)]
mod tests;
