//! How often scores in memory are right.

use campana_eval::{AccuracyTally, Interval, argmax};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::error::argument;

/// Shares of right answers: the likeliest class, the ends of its interval, the
/// five likeliest, and the answers that are the reference's.
type Shares = (Option<f64>, [f64; 2], Option<f64>, Option<f64>);

/// Counts right answers.
#[pyclass(module = "campana")]
pub(crate) struct Tally(AccuracyTally);

#[pymethods]
impl Tally {
    #[new]
    fn new() -> Self {
        Self(AccuracyTally::new())
    }

    /// Counts the answers of `[samples, classes]` scores.
    #[pyo3(signature = (scores, labels, reference))]
    fn add(
        &mut self,
        scores: PyReadonlyArray2<'_, f32>,
        labels: Option<Vec<i64>>,
        reference: Option<PyReadonlyArray2<'_, f32>>,
    ) -> PyResult<()> {
        let &[samples, classes] = scores.shape() else {
            return Err(argument("scores have two axes"));
        };
        let expected = reference
            .as_ref()
            .map(|reference| Ok::<_, PyErr>((reference.shape()[1].max(1), reference.as_slice()?)))
            .transpose()?;
        let expected: Option<Vec<Option<usize>>> =
            expected.map(|(classes, scores)| scores.chunks(classes).map(argmax).collect());
        if labels
            .as_ref()
            .is_some_and(|labels| labels.len() != samples)
        {
            return Err(argument(format!(
                "there are {} labels for {samples} samples",
                labels.map_or(0, |labels| labels.len())
            )));
        }
        for (sample, scores) in scores.as_slice()?.chunks(classes.max(1)).enumerate() {
            let label = labels.as_ref().map(|labels| class(labels[sample], classes));
            let reference = expected
                .as_ref()
                .and_then(|expected| *expected.get(sample)?);
            self.0.add(scores, label.transpose()?, reference);
        }
        Ok(())
    }

    /// The number of samples.
    #[getter]
    fn samples(&self) -> u64 {
        self.0.images()
    }

    /// The shares so far; `None` where none can be told.
    fn shares(&self) -> Shares {
        let Interval { low, high } = self.0.top1().wilson_95();
        let [top1, top5, agreement] = [self.0.top1(), self.0.top5(), self.0.agreement()];
        (
            top1.fraction(),
            [low, high],
            top5.fraction(),
            agreement.fraction(),
        )
    }
}

/// A label as the index of one of the classes.
fn class(label: i64, classes: usize) -> PyResult<usize> {
    let index = usize::try_from(label).ok();
    index.filter(|&index| index < classes).ok_or_else(|| {
        argument(format!(
            "label {label} is none of the network's {classes} classes, 0 to {}",
            classes.saturating_sub(1)
        ))
    })
}
