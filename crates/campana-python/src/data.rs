//! Data in memory: samples for calibration, and measures on samples.

use std::sync::{Mutex, PoisonError};

use campana_ir::graph::Graph;
use campana_pipeline::{Error, ErrorKind, Measure, causes};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::Tensor;
use pyo3::prelude::*;

use crate::error::argument;
use crate::session::{arrays, tensor};

/// Row-major arrays by name.
#[derive(Debug)]
pub(crate) struct Arrays(pub(crate) Vec<(String, Tensor)>);

impl<'py> FromPyObject<'_, 'py> for Arrays {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let named: Vec<(String, Bound<'py, PyAny>)> = given.extract()?;
        let tensors = named.into_iter().map(|(name, array)| {
            let tensor = tensor(&array);
            let tensor = tensor.ok_or_else(|| {
                argument(format!("input '{name}' has a type that models do not take"))
            })?;
            Ok((name, tensor))
        });
        tensors.collect::<PyResult<_>>().map(Self)
    }
}

/// A Python function that judges the outputs of a network on some batches.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Metric {
    batches: Vec<Arrays>,
    samples: u64,
    is_top1: bool,
    /// From the outputs of each batch to a number.
    score: Py<PyAny>,
}

/// The metric as a job calls it.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    metric: &'a Metric,
    /// What the function raised.
    raised: Mutex<Option<PyErr>>,
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metric on {} samples", self.samples)
    }
}

impl<'a> Judge<'a> {
    pub(crate) fn new(metric: &'a Metric) -> Self {
        Self {
            metric,
            raised: Mutex::new(None),
        }
    }

    /// What the function raised, which ended the job.
    pub(crate) fn raised(self) -> Option<PyErr> {
        let raised = self.raised.into_inner();
        raised.unwrap_or_else(PoisonError::into_inner)
    }

    fn score(&self, plan: &Plan, outputs: Vec<Vec<Tensor>>) -> PyResult<f64> {
        Python::attach(|py| {
            let outputs = outputs.into_iter();
            let outputs: Vec<_> = outputs
                .map(|outputs| arrays(py, plan, outputs))
                .collect::<PyResult<_>>()?;
            self.metric.score.call1(py, (outputs,))?.extract(py)
        })
    }
}

fn unfit(error: &dyn std::error::Error) -> Error {
    let message = format!("the network cannot be measured: {}", causes(error));
    Error::new(ErrorKind::Unsupported, message)
}

impl Measure for Judge<'_> {
    fn measure(&self, graph: &Graph, threads: usize) -> Result<f64, Error> {
        let session = Session::new(
            Plan::new(graph, PlanOptions::default()).map_err(|error| unfit(&error))?,
            threads,
        );
        let mut outputs = Vec::with_capacity(self.metric.batches.len());
        for Arrays(batch) in &self.metric.batches {
            let inputs: Vec<(&str, Input<'_>)> = batch
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor.into()))
                .collect();
            outputs.push(session.run(&inputs).map_err(|error| unfit(&error))?);
        }
        self.score(session.plan(), outputs).map_err(|raised| {
            let mut slot = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(raised);
            Error::interrupted()
        })
    }

    fn samples(&self) -> u64 {
        self.metric.samples
    }

    fn is_top1(&self) -> bool {
        self.metric.is_top1
    }
}
