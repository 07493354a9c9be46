//! Codes and levels of a layer's weights for the least error of its outputs.

use campana_codebook::QuantizedTensor;
use campana_design::integer_levels::is_uniform_grid;
use campana_ir::graph::Node;
use campana_ir::weights::Role;
use campana_quantize::graph::replace;
use campana_quantize::outcome::clip;
use campana_quantize::store::Precision;
use campana_quantize::{Error, round_tensor, sqnr_db};
use campana_rounding::{GptqSolver, LayerHessian};
use campana_tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::correct::aim::aimed;
use crate::correct::at_rate;
use crate::correct::finished::{FinishedLayer, key_of_layer};
use crate::correct::grid_layer::solve_grid;
use crate::correct::inputs::Windows;
use crate::correct::layer::{Rows, losses, solve, solve_codes};
use crate::correct::layer_inputs::MAX_INPUTS;
use crate::correct::moments::{About, InputMoments, TargetRows};
use crate::correct::rounding::Rounding;
use crate::correct::shrinkage::covariance_share;
use crate::correct::state::Correction;
use crate::correct::vector_layer::{Table, solve_numbers, solve_vectors, vector_len};

impl Correction<'_, '_, '_> {
    /// Codes of least output error, new or kept from a correction that was
    /// interrupted.
    pub(super) fn compensate(
        &mut self,
        node: &Node,
        place: usize,
        about: About,
    ) -> Result<(), Error> {
        let outcome = &self.quantized.tensors[place];
        let (Some(before), name) = (&outcome.quantized, outcome.tensor.name) else {
            return Ok(());
        };
        if outcome.squared_error == 0.0 {
            // What is stored exactly stays so.
            return Ok(());
        }
        let key = |correction: u64| key_of_layer(correction, name);
        let kept = self.finished.as_ref().and_then(|(correction, layers)| {
            let layer = layers.find(key(*correction))?;
            layer.restore(before)
        });
        let tensor = match kept {
            Some((tensor, covariance_share)) => {
                self.covariance_share = covariance_share;
                tensor
            }
            None => {
                let Some(tensor) = self.solve(node, place, about)? else {
                    return Ok(());
                };
                if let Some((correction, layers)) = &mut self.finished {
                    layers.keep(FinishedLayer::new(
                        key(*correction),
                        &tensor,
                        self.covariance_share,
                    ))?;
                }
                tensor
            }
        };
        if self.has_integer_levels() {
            self.unrounded.remove(&place);
            let report = &mut self.quantized.tensors[place].report;
            report.output_bytes = tensor.len_bytes() as u64;
        }
        self.take(place, tensor)
    }

    /// Whether layers are solved for levels that are integers already.
    pub(super) fn has_integer_levels(&self) -> bool {
        self.quantized.target.rounds_activations() && self.rounding == Rounding::Compensate
    }

    /// Codes and levels for the least error of a layer's outputs; `None` where
    /// the layer is not read in a common way.
    fn solve(
        &mut self,
        node: &Node,
        place: usize,
        about: About,
    ) -> Result<Option<QuantizedTensor>, Error> {
        let outcome = &self.quantized.tensors[place];
        let (
            Some(tensor),
            Role::Weight {
                channel_axis: Some(axis),
                ..
            },
        ) = (&outcome.quantized, &outcome.tensor.role)
        else {
            return Ok(None);
        };
        let name = outcome.tensor.name;
        let Some(TensorData::F32(weights)) = self.graph.constants.get(name).map(Tensor::data)
        else {
            return Ok(None);
        };
        let Some(inputs) = self.layer_inputs(node, &tensor.shape) else {
            return Ok(None);
        };
        let Some(mut rows) = Rows::new(weights, tensor, *axis) else {
            return Ok(None);
        };
        let groups = inputs[0].windows.groups();
        if rows.row_len() > MAX_INPUTS {
            return self.solve_in_parts(&inputs, tensor, &rows, about);
        }
        let addition = match (groups, &*inputs) {
            (1, [_]) => self.addition(node, rows.count())?,
            _ => None,
        };
        let block = match *tensor.shape {
            [_, _, ref kernel @ ..] if !matches!(inputs[0].windows, Windows::Rows) => {
                kernel.iter().product()
            }
            _ => 1,
        };
        let target = TargetRows {
            weights: rows.weights(),
            row_len: rows.row_len(),
            block,
        };
        let mut moments = InputMoments::new().with_targets(target);
        for input in &inputs {
            let addend = addition.as_ref().map(|(other, _)| &**other);
            self.add_moments(&mut moments, input, input.gatherer(), addend)?;
        }
        let mut moments = moments.finish(about);
        if moments.len() != groups
            || rows.count() % groups != 0
            || moments
                .iter()
                .any(|moments| moments.own.inputs() != rows.row_len())
        {
            return Ok(None);
        }
        let share = self
            .variances_behind(node)
            .filter(|variances| variances.len() == rows.count())
            .and_then(|variances| covariance_share(&rows, &moments, &variances, block));
        // A layer without a normalization sees much the same as the last one.
        self.covariance_share = share.unwrap_or(self.covariance_share);
        let covariance_share = self.covariance_share;
        moments = moments
            .into_par_iter()
            .map(|moments| moments.shrunk_to(covariance_share, block))
            .collect();
        if let Some((_, units)) = addition {
            moments[0].add_addend_error(&units, rows.unit);
        }
        let (solvers, target) = aimed(&mut rows, moments, vector_len(tensor));
        if self.rounding == Rounding::AtRate {
            return Ok(Some(at_rate::solve(&rows, tensor, &solvers)));
        }
        let moments: Vec<(&LayerHessian, &[f32])> = solvers
            .iter()
            .map(GptqSolver::hessian)
            .zip(target.iter().map(Vec::as_slice))
            .collect();
        Ok(self.solved(&rows, place, tensor, &solvers, &moments))
    }

    /// Codes and levels by these solvers, the levels rounded as they will be
    /// stored; `None` where outputs lose no less by them.
    fn solved(
        &self,
        rows: &Rows,
        place: usize,
        tensor: &QuantizedTensor,
        solvers: &[GptqSolver],
        moments: &[(&LayerHessian, &[f32])],
    ) -> Option<QuantizedTensor> {
        let precision = Precision::Coarse;
        let mut solved = match vector_len(tensor) {
            Some(_) => {
                let table = self.table_of(place, tensor);
                solve_vectors(rows, tensor, solvers, precision, table, FITS)?
            }
            None if is_uniform_grid(tensor) => solve_grid(rows, tensor, solvers, moments, FITS)?,
            None => solve(rows, tensor, solvers, precision, FITS),
        };
        let [before, after] = losses(rows, [tensor, &solved], moments);
        if after.partial_cmp(&before) != Some(std::cmp::Ordering::Less) {
            return None;
        }
        let target = self.quantized.target;
        let is_to_round = self.has_integer_levels() && !is_uniform_grid(&solved);
        let levels = solved.tables.levels();
        // Codes for the levels as they are now, but for integers beyond those of
        // the bits that were asked for.
        if is_to_round && round_tensor(&mut solved, target) && solved.tables.levels() <= levels {
            let again = match vector_len(&solved) {
                Some(_) => solve_numbers(rows, &solved, solvers),
                None => solve_codes(rows, &solved, solvers),
            };
            if let Some(again) = again {
                let [rounded, resolved] = losses(rows, [&solved, &again], moments);
                if resolved < rounded {
                    solved = again;
                }
            }
        }
        Some(solved)
    }

    /// Whose the table of a tensor's vectors is.
    fn table_of(&self, place: usize, tensor: &QuantizedTensor) -> Table {
        let mut others = self.quantized.tensors.iter().enumerate();
        let is_shared = others.any(|(other, outcome)| {
            let other_tensor = outcome.quantized.as_ref().filter(|_| other != place);
            other_tensor.is_some_and(|other| other.packing == tensor.packing)
        });
        if is_shared { Table::Shared } else { Table::Own }
    }

    /// Puts a corrected tensor into the network and its figures into the report.
    fn take(&mut self, place: usize, tensor: QuantizedTensor) -> Result<(), Error> {
        let outcome = &mut self.quantized.tensors[place];
        let name = outcome.tensor.name;
        let Some(TensorData::F32(weights)) = self.graph.constants.get(name).map(Tensor::data)
        else {
            return Ok(());
        };
        let decoded = tensor.dequantize();
        let squared_error: f64 = weights
            .iter()
            .zip(&decoded)
            .map(|(weight, decoded)| (f64::from(*decoded) - f64::from(*weight)).powi(2))
            .sum();
        outcome.report.mse = Some(squared_error / decoded.len() as f64);
        outcome.report.sqnr_db = Some(sqnr_db(outcome.energy, squared_error));
        outcome.report.clip = Some(clip(&tensor));
        outcome.squared_error = squared_error;
        outcome.quantized = Some(tensor);
        replace(&mut self.quantized_graph, name, decoded)?;
        self.report.compensated += 1;
        self.note_change(place);
        Ok(())
    }
}

/// How often levels are fitted to codes and codes to levels.
const FITS: usize = 2;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use campana_ir::graph::Graph;
    use campana_onnx::{
        Content, Dim, Model, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema,
    };
    use campana_quantize::graph::{float_graph, quantized_graph};
    use campana_quantize::{Options, QuantizedModel, Silent, Target, quantize, round_levels};
    use campana_tensor::{ElementType, SplitMix64};

    use super::*;
    use crate::correct::images::dead_leaves;
    use crate::correct::{CorrectionSettings, correct};
    use crate::running::{run, session};
    use crate::samples::Samples;

    /// Two images through layers that share weights: each through three
    /// convolutions, of which `w` are the first and, dilated, the last.
    fn siamese() -> Model {
        let mut graph = Content::default().string(schema::graph::NAME, "net");
        for branch in ["a", "b"] {
            let name = |stage: &str| format!("{branch}{stage}");
            let dilated = NewNode::new("Conv", [&name("4"), "w"], [&name("5")])
                .attribute("dilations", vec![2i64, 2]);
            let nodes = [
                NewNode::new("Conv", [&name(""), "w"], [&name("1")]),
                NewNode::new("Relu", [&name("1")], [&name("2")]),
                NewNode::new("Conv", [&name("2"), "v"], [&name("3")]),
                NewNode::new("Relu", [&name("3")], [&name("4")]),
                dilated,
            ];
            for node in nodes {
                graph = graph.message(schema::graph::NODE, node);
            }
            let sides = [2, 8, 16, 16].map(Dim::Value);
            let input = NewValueInfo::tensor(branch, ElementType::F32, Some(&sides));
            let output = NewValueInfo::tensor(&name("5"), ElementType::F32, None);
            graph = graph
                .message(schema::graph::INPUT, input)
                .message(schema::graph::OUTPUT, output);
        }
        let mut random = SplitMix64::new(7);
        for name in ["w", "v"] {
            let values = (0..8 * 8 * 9).map(|_| (random.uniform() - 0.5) as f32 / 3.0);
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            let tensor = NewTensor::raw(name, &[8, 8, 3, 3], ElementType::F32, bytes);
            graph = graph.message(schema::graph::INITIALIZER, tensor);
        }
        model_of(graph)
    }

    fn model_of(graph: Content<'static>) -> Model {
        let bytes = Content::default()
            .int(schema::model::IR_VERSION, 8)
            .message(schema::model::GRAPH, graph)
            .message(schema::model::OPSET_IMPORT, opset_import("", 17))
            .into_bytes();
        Model::parse(Source::from_bytes(bytes.unwrap())).unwrap()
    }

    /// A dense layer of more inputs than are solved as a whole.
    fn wide() -> Model {
        let (inputs, outputs) = (MAX_INPUTS + 640, 4);
        let mut random = SplitMix64::new(7);
        let values = (0..inputs * outputs).map(|_| (random.uniform() - 0.5) as f32);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        let sides = [Dim::Symbol("n".to_owned()), Dim::Value(inputs as i64)];
        let graph = Content::default()
            .string(schema::graph::NAME, "net")
            .message(
                schema::graph::NODE,
                NewNode::new("MatMul", ["a", "w"], ["y"]),
            )
            .message(
                schema::graph::INITIALIZER,
                NewTensor::raw("w", &[inputs, outputs], ElementType::F32, bytes),
            )
            .message(
                schema::graph::INPUT,
                NewValueInfo::tensor("a", ElementType::F32, Some(&sides)),
            )
            .message(
                schema::graph::OUTPUT,
                NewValueInfo::tensor("y", ElementType::F32, None),
            );
        model_of(graph)
    }

    /// Squared error of a quantized network's outputs, all of them.
    fn error(model: &Model, quantized: &QuantizedModel<'_>, inputs: &[(&str, Tensor)]) -> f64 {
        let outputs = |graph: &Graph| {
            let session = session(graph, 1).unwrap();
            run(
                &session,
                inputs.iter().map(|(name, tensor)| (*name, tensor)),
            )
            .unwrap()
        };
        let [float, quantized] = [
            outputs(&float_graph(model).unwrap()),
            outputs(&quantized_graph(model, quantized).unwrap()),
        ];
        let pairs = float.iter().zip(&quantized);
        pairs
            .flat_map(|(one, other)| {
                let (TensorData::F32(one), TensorData::F32(other)) = (one.data(), other.data())
                else {
                    panic!("no floats");
                };
                one.iter().zip(other)
            })
            .map(|(one, other)| f64::from(one - other).powi(2))
            .sum()
    }

    /// Errors before and after the correction of as many tensors as are told.
    fn errors(model: &Model, inputs: &[(&str, Tensor)], tensors: usize) -> [f64; 2] {
        let options = Options {
            bits: 3,
            means_are_corrected: true,
            ..Options::default()
        };
        let mut quantized = quantize(model, &options, &Silent).unwrap();
        let before = error(model, &quantized, inputs);
        let samples = Samples::Arrays(
            inputs
                .iter()
                .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
                .collect(),
        );
        let settings = CorrectionSettings::new(Rounding::Compensate, 1);
        let corrected = correct(model, &mut quantized, &samples, settings, None, &Silent).unwrap();
        assert_eq!(corrected.report.compensated, tensors);
        assert!(corrected.report.skipped.is_empty());
        [before, error(model, &quantized, inputs)]
    }

    fn images(shape: [usize; 4]) -> Vec<f32> {
        dead_leaves(shape, 0)
    }

    #[test]
    fn weights_that_layers_share_are_solved_for_all_of_them() {
        let values = images([4, 8, 16, 16]);
        let half = |values: &[f32]| {
            Tensor::new(vec![2, 8, 16, 16], TensorData::F32(values.to_vec())).unwrap()
        };
        let (first, second) = values.split_at(values.len() / 2);
        let inputs = [("a", half(first)), ("b", half(second))];
        let [before, after] = errors(&siamese(), &inputs, 2);
        assert!(after < 0.8 * before, "{after}, before {before}");
    }

    #[test]
    fn stored_integers_of_few_bits_stay_few() {
        let model = siamese();
        let options = Options {
            bits: 4,
            target: Target::Int8,
            means_are_corrected: true,
            ..Options::default()
        };
        let mut quantized = quantize(&model, &options, &Silent).unwrap();
        let image = || Tensor::new(vec![2, 8, 16, 16], TensorData::F32(images([2, 8, 16, 16])));
        let inputs = ["a", "b"].map(|name| (name.to_owned(), image().unwrap()));
        let samples = Samples::Arrays(inputs.to_vec());
        let settings = CorrectionSettings::new(Rounding::Compensate, 1);
        let corrected = correct(&model, &mut quantized, &samples, settings, None, &Silent).unwrap();
        assert!(corrected.report.compensated > 0);
        round_levels(&mut quantized, Target::Int8);
        for outcome in &quantized.tensors {
            let decoded = outcome.quantized.as_ref().unwrap().dequantize();
            for row in decoded.chunks_exact(8 * 9) {
                let different: HashSet<u32> = row.iter().map(|value| value.to_bits()).collect();
                assert!(different.len() <= 16, "{}", different.len());
            }
        }
    }

    #[test]
    fn layers_of_many_inputs_are_solved_in_parts() {
        let inputs = MAX_INPUTS + 640;
        let rows = images([32, 1, 32, inputs / 32]);
        let rows = Tensor::new(vec![32, inputs], TensorData::F32(rows)).unwrap();
        let [before, after] = errors(&wide(), &[("a", rows)], 1);
        assert!(after < 0.8 * before, "{after}, before {before}");
    }
}
