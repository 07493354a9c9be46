//! Layers whose correction is undone, where the outputs are worse for it.

use campana_ir::graph::Graph;
use campana_quantize::graph::replace;
use campana_quantize::{Error, TensorOutcome};

use crate::correct::state::{Correction, Skipped};
use crate::correct::verdict::{Expected, decibels};

/// How often the network is run with some of the layers corrected.
const TRIALS: usize = 16;

/// Steps whose correction is undone, one after another or a whole end of them.
#[derive(Debug, PartialEq)]
struct Undone {
    /// Their numbers, ascending.
    steps: Vec<usize>,
    /// The error of the outputs without their correction, and with it.
    errors: [f64; 2],
}

/// What must be undone of so many steps for an error of at most that of none.
/// `errors` are those of none and of all; `error_of` gives that of those that
/// are told. A bisection: the first step that raises the error is undone, and
/// the search goes on behind it.
fn search(
    steps: usize,
    [none, all]: [f64; 2],
    mut error_of: impl FnMut(&dyn Fn(usize) -> bool) -> Result<f64, Error>,
) -> Result<Vec<Undone>, Error> {
    let mut undone: Vec<Undone> = Vec::new();
    let mut left = TRIALS;
    let (mut good, mut error_of_good, mut error_of_bad) = (0, none, all);
    loop {
        let (mut bad, is_undone) = (steps, |step: usize| {
            undone.iter().any(|undone| undone.steps.contains(&step))
        });
        while bad - good > 1 && left > 0 {
            let middle = good.midpoint(bad);
            let error = error_of(&|step| step < middle && !is_undone(step))?;
            left -= 1;
            match error <= none {
                true => (good, error_of_good) = (middle, error),
                false => (bad, error_of_bad) = (middle, error),
            }
        }
        let end = if left == 0 { steps } else { bad };
        undone.push(Undone {
            steps: (good..end).collect(),
            errors: [error_of_good, error_of_bad],
        });
        if end == steps {
            return Ok(undone);
        }
        let is_undone = |step: usize| undone.iter().any(|undone| undone.steps.contains(&step));
        let error = error_of(&|step| !is_undone(step))?;
        left -= 1;
        if error <= none {
            return Ok(undone);
        }
        (good, error_of_bad) = (end, error);
    }
}

impl<'m> Correction<'_, 'm, '_> {
    /// Undoes the correction of the layers by which the outputs get worse than
    /// without any; says whether something of it remains. `errors` are those without
    /// the correction and with it.
    pub(super) fn undo_where_worse(
        &mut self,
        uncorrected: &[TensorOutcome<'m>],
        expected: &Expected<'_>,
        errors: [f64; 2],
    ) -> Result<bool, Error> {
        self.steps.retain(|step| !step.places.is_empty());
        let undone = search(self.steps.len(), errors, |is_kept| {
            let undone = (0..self.steps.len()).filter(|&step| !is_kept(step));
            expected.error_of(&self.without(uncorrected, undone)?, self.threads)
        })?;
        let all = || {
            undone
                .iter()
                .flat_map(|undone| undone.steps.iter().copied())
        };
        if all().count() == self.steps.len() {
            return Ok(false);
        }
        self.quantized_graph = self.without(uncorrected, all())?;
        for undone in &undone {
            let [without, with] = undone.errors.map(decibels);
            let reason = format!(
                "on the samples {} would keep {with:.1} dB with its correction, and keep {without:.1} dB without",
                self.compared
            );
            for &step in &undone.steps {
                let step = &self.steps[step];
                self.report.skipped.push(Skipped {
                    name: step.name.clone(),
                    op: step.op.clone(),
                    reason: reason.clone(),
                });
                for &place in &step.places {
                    match uncorrected[place].quantized {
                        Some(_) => self.report.compensated -= 1,
                        None => self.report.corrected -= 1,
                    }
                    let outcome = self.as_stored(&uncorrected[place]);
                    self.quantized.tensors[place] = outcome;
                }
            }
        }
        Ok(true)
    }

    /// The quantized network without the correction of some steps.
    fn without(
        &self,
        uncorrected: &[TensorOutcome<'m>],
        steps: impl Iterator<Item = usize>,
    ) -> Result<Graph, Error> {
        let mut graph = self.quantized_graph.clone();
        for place in steps.flat_map(|step| &self.steps[step].places) {
            let outcome = self.as_stored(&uncorrected[*place]);
            let name = outcome.tensor.name;
            match &outcome.quantized {
                Some(tensor) => replace(&mut graph, name, tensor.dequantize())?,
                None => {
                    if let Some(own) = self.graph.constants.get(name) {
                        graph.constants.insert(name.to_owned(), own.clone());
                    }
                }
            }
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use campana_onnx::{
        Content, Dim, Model, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema,
    };
    use campana_quantize::{Options, Silent, quantize};
    use campana_tensor::{ElementType, SplitMix64, Tensor, TensorData};

    use super::*;
    use crate::correct::verdict::JUDGED_SHARE;
    use crate::correct::{CorrectionSettings, Rounding, correct};
    use crate::samples::{BATCH, Samples};

    /// The search where each step adds its own to an error of 100.
    fn found(changes: &[f64]) -> (Vec<usize>, usize) {
        let error = |is_kept: &dyn Fn(usize) -> bool| -> f64 {
            let kept = changes
                .iter()
                .enumerate()
                .filter(|(step, _)| is_kept(*step));
            100.0 + kept.map(|(_, change)| change).sum::<f64>()
        };
        let mut trials = 0;
        let errors = [100.0, error(&|_| true)];
        let undone = search(changes.len(), errors, |is_kept| {
            trials += 1;
            Ok(error(is_kept))
        });
        let steps = undone.unwrap().into_iter().flat_map(|undone| undone.steps);
        (steps.collect(), trials)
    }

    #[test]
    fn only_the_steps_that_do_harm_are_undone() {
        let mut changes = vec![-1.0; 40];
        changes[25] = 500.0;
        assert_eq!(found(&changes).0, [25]);
        changes[7] = 90.0;
        assert_eq!(found(&changes).0, [7, 25]);
    }

    #[test]
    fn the_end_is_undone_where_trials_run_out() {
        let (undone, trials) = found(&[50.0; 100]);
        assert_eq!(undone, (0..100).collect::<Vec<_>>());
        assert!(trials <= TRIALS, "{trials}");
        assert_eq!(found(&[3.0]), (vec![0], 0));
    }

    const INPUTS: usize = 64;
    const ROWS: usize = 8 * BATCH;

    /// Two products, each of an input of its own.
    fn products() -> Model {
        let mut random = SplitMix64::new(3);
        let mut graph = Content::default().string(schema::graph::NAME, "net");
        for name in ["a", "b"] {
            let [input, weights, output] = ["x", "w", "y"].map(|part| format!("{part}{name}"));
            let values = (0..INPUTS * 32).map(|_| (random.uniform() - 0.5) as f32);
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            let node = NewNode::new("MatMul", [&input, &weights], [&output]);
            let tensor = NewTensor::raw(&weights, &[INPUTS, 32], ElementType::F32, bytes);
            let sides = [Dim::Symbol("n".to_owned()), Dim::Value(INPUTS as i64)];
            let input = NewValueInfo::tensor(&input, ElementType::F32, Some(&sides));
            let output = NewValueInfo::tensor(&output, ElementType::F32, None);
            graph = graph
                .message(schema::graph::NODE, node)
                .message(schema::graph::INITIALIZER, tensor)
                .message(schema::graph::INPUT, input)
                .message(schema::graph::OUTPUT, output);
        }
        let bytes = Content::default()
            .int(schema::model::IR_VERSION, 8)
            .message(schema::model::GRAPH, graph)
            .message(schema::model::OPSET_IMPORT, opset_import("", 17))
            .into_bytes();
        Model::parse(Source::from_bytes(bytes.unwrap())).unwrap()
    }

    /// The correction of `wb` sees loud batches of slow waves, and is judged by fast ones: errors
    /// go where the former have nothing.
    fn samples() -> Samples {
        let mut random = SplitMix64::new(5);
        let mut array = |is_loud: &dyn Fn(usize) -> bool| {
            let mut values = Vec::with_capacity(ROWS * INPUTS);
            for row in 0..ROWS {
                let frequencies = if is_loud(row) { 0..40u32 } else { 40..64 };
                let waves: Vec<(u32, f64)> = frequencies
                    .map(|frequency| (frequency, random.uniform() - 0.5))
                    .collect();
                let amplitude = if is_loud(row) { 100.0 } else { 1.0 };
                values.extend((0..INPUTS).map(|input| {
                    let phase = std::f64::consts::PI * (input as f64 + 0.5) / INPUTS as f64;
                    let waves = waves.iter();
                    let sum: f64 = waves.map(|&(k, u)| u * (f64::from(k) * phase).cos()).sum();
                    (amplitude * sum) as f32
                }));
            }
            Tensor::new(vec![ROWS, INPUTS], TensorData::F32(values)).unwrap()
        };
        let even = array(&|_| false);
        let loud = array(&|row| !(row / BATCH).is_multiple_of(JUDGED_SHARE));
        Samples::Arrays(vec![("xa".to_owned(), even), ("xb".to_owned(), loud)])
    }

    #[test]
    fn the_other_layers_keep_their_correction() {
        let model = products();
        let options = Options {
            bits: 3,
            ..Options::default()
        };
        let mut quantized = quantize(&model, &options, &Silent).unwrap();
        let before = quantized.tensors.clone();
        let settings = CorrectionSettings::new(Rounding::Compensate, 1);
        let samples = samples();
        let corrected = correct(&model, &mut quantized, &samples, settings, None, &Silent).unwrap();
        let report = corrected.report;
        assert_eq!(report.skipped.len(), 1, "{report:?}");
        assert_eq!(report.skipped[0].name, "yb");
        assert_eq!(report.compensated, 1);
        for (before, after) in before.iter().zip(&quantized.tensors) {
            let [own, now] =
                [before, after].map(|outcome| outcome.quantized.as_ref().unwrap().dequantize());
            let name = before.tensor.name;
            assert_eq!(own == now, name == "wb", "{name}");
        }
    }
}
