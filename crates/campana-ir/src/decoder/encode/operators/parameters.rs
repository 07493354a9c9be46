//! Small lists of parameters of which a model has many: one tensor for all,
//! and one operator that parts them.
//!
//! ```text
//! float16 list -> Cast -> Split -> parameters
//! value -> Tile -> Split -> parameters that are that value throughout
//! ```

use std::collections::BTreeMap;

use campana_codebook::Storage;
use campana_tensor::ElementType;

use super::{Attribute, Decoder, Operator};

impl Decoder {
    /// Adds what makes these lists, by name; no list is empty, and all
    /// [`are_halves`](super::are_halves).
    pub fn add_parameters(&mut self, lists: &[(&str, &[f32])]) {
        let mut varied = Vec::new();
        let mut constant: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for &(name, list) in lists {
            match constant_of(list) {
                Some(value) => constant.entry(value).or_default().push((name, list)),
                None => varied.push((name, list)),
            }
        }
        if !varied.is_empty() {
            let all: Vec<f32> = varied.iter().flat_map(|(_, list)| list.to_vec()).collect();
            let data = Storage::F16.encode(&all);
            let halves = self.shared_tensor("p", vec![all.len()], ElementType::F16, data);
            let floats = self.shared_cast(halves, ElementType::F32);
            self.split(floats, &varied);
        }
        for (value, lists) in constant {
            let count: usize = lists.iter().map(|(_, list)| list.len()).sum();
            let value = f32::from_bits(value).to_le_bytes().to_vec();
            let value = self.shared_tensor("v", vec![1], ElementType::F32, value);
            let count = self.shared_shape(&[count as i64]);
            let all = self.operator("Tile", vec![value, count], vec![]);
            self.split(all, &lists);
        }
    }

    /// Parts a list into lists of these names and lengths.
    fn split(&mut self, list: String, parts: &[(&str, &[f32])]) {
        let lengths: Vec<i64> = parts.iter().map(|(_, part)| part.len() as i64).collect();
        let mut inputs = vec![list];
        let mut attributes = Vec::new();
        if self.opset < 13 {
            attributes.push(("split", Attribute::Ints(lengths)));
        } else {
            inputs.push(self.shared_shape(&lengths));
        }
        self.values += 1;
        self.operators.push(Operator {
            op_type: "Split",
            inputs,
            outputs: parts.iter().map(|(name, _)| (*name).to_owned()).collect(),
            attributes,
        });
    }
}

/// The bits of the value that all of a list have.
fn constant_of(values: &[f32]) -> Option<u32> {
    let first = values.first()?.to_bits();
    values
        .iter()
        .all(|value| value.to_bits() == first)
        .then_some(first)
}
