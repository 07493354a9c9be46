//! Fits, designs and quantization of arrays.

use campana_codebook::Codebook as Levels;
use campana_design::{Levels as Designed, Method, Summary};
use campana_pipeline::{Error, ErrorKind, NamedArray};
use campana_quantize::inspect::inspect_values;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::error::{argument, exception, in_python};
use crate::file::json;
use crate::job;
use crate::options::{Keywords, width};

/// The ordered levels of a scalar quantizer and the thresholds between them.
#[pyclass(frozen, module = "campana")]
pub(crate) struct Codebook(Levels);

#[pymethods]
impl Codebook {
    #[new]
    fn new(levels: PyReadonlyArray1<'_, f32>) -> PyResult<Self> {
        let levels = levels.as_slice()?.to_vec();
        Levels::new(levels).map(Self).map_err(argument)
    }

    /// As it was pickled; the thresholds are those of another codebook.
    #[staticmethod]
    fn with_thresholds(
        levels: PyReadonlyArray1<'_, f32>,
        thresholds: PyReadonlyArray1<'_, f32>,
    ) -> PyResult<Self> {
        let levels = levels.as_slice()?.to_vec();
        let thresholds: Vec<f64> = thresholds
            .as_slice()?
            .iter()
            .copied()
            .map(f64::from)
            .collect();
        if thresholds.len() + 1 != levels.len() || !thresholds.is_sorted() {
            return Err(argument("thresholds ascend, one between two levels"));
        }
        Levels::with_thresholds(levels, &thresholds)
            .map(Self)
            .map_err(argument)
    }

    #[getter]
    fn levels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.0.levels().to_vec().into_pyarray(py)
    }

    #[getter]
    fn thresholds<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.0.thresholds().to_vec().into_pyarray(py)
    }

    /// The code of the level of each value.
    fn assign<'py>(
        &self,
        py: Python<'py>,
        values: PyReadonlyArray1<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let values = values.as_slice()?;
        let codes = py.detach(|| {
            let mut codes = vec![0; values.len()];
            self.0.assign(values, &mut codes);
            codes
        });
        Ok(codes.into_pyarray(py))
    }

    /// The level of each code.
    fn dequantize<'py>(
        &self,
        py: Python<'py>,
        codes: PyReadonlyArray1<'py, u8>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let codes = codes.as_slice()?;
        let levels = self.0.levels();
        let values = py.detach(|| {
            let level = |&code: &u8| levels.get(usize::from(code)).copied().ok_or(code);
            codes.iter().map(level).collect::<Result<Vec<f32>, u8>>()
        });
        let values = values.map_err(|code| {
            argument(format!(
                "code {code} has no level; the codebook has {}",
                levels.len()
            ))
        })?;
        Ok(values.into_pyarray(py))
    }

    fn __len__(&self) -> usize {
        self.0.levels().len()
    }
}

/// The codebook that a method designs for an array.
#[pyfunction]
pub(crate) fn design(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f32>,
    bits: i64,
    method: &str,
    threads: Option<i64>,
) -> PyResult<Codebook> {
    let method: Method = method.parse().map_err(argument)?;
    let bits = width("bits", bits)?;
    let values = given(&values)?;
    let designed = job::run(py, threads, None, |_, _| {
        let summary = Summary::of(values);
        check(&summary)?;
        Ok::<_, PyErr>(campana_design::design(method, &summary, bits).levels)
    })??;
    let levels = designed
        .values()
        .iter()
        .map(|&level| level as f32)
        .collect();
    let codebook = match &designed {
        Designed::Coded { thresholds, .. } => Levels::with_thresholds(levels, thresholds),
        _ => Levels::new(levels),
    };
    codebook.map(Codebook).map_err(argument)
}

/// How an array is distributed: JSON text.
#[pyfunction]
pub(crate) fn fit(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f32>,
    shape: Vec<usize>,
    threads: Option<i64>,
) -> PyResult<String> {
    let values = given(&values)?;
    let inspected = job::run(py, threads, None, |_, _| {
        check(&Summary::of(values))?;
        inspect_values("array", "", shape, values).map_err(exception)
    })??;
    json(&inspected)
}

/// The values of an array that has some.
fn given<'a>(values: &'a PyReadonlyArray1<'_, f32>) -> PyResult<&'a [f32]> {
    let values = values.as_slice()?;
    if values.is_empty() {
        return Err(argument("the array is empty"));
    }
    Ok(values)
}

fn check(summary: &Summary<'_>) -> PyResult<()> {
    match summary.moments().non_finite {
        0 => Ok(()),
        count => Err(argument(format!(
            "the array has {count} values that are NaN or infinite"
        ))),
    }
}

/// An array as Python hands it over: its name, its shape, the bytes of an
/// element where it came from, and its elements.
type Given<'py> = (String, Vec<usize>, usize, PyReadonlyArray1<'py, f32>);

fn named<'a>(arrays: &'a [Given<'_>]) -> PyResult<Vec<NamedArray<'a>>> {
    let named = arrays.iter().map(|(name, shape, element_bytes, values)| {
        Ok(NamedArray {
            name,
            shape,
            element_bytes: *element_bytes,
            values: values.as_slice()?,
        })
    });
    named.collect()
}

/// Quantizes the weights among arrays: the decoded values, `None` for an array
/// that stays as it is.
#[pyfunction]
pub(crate) fn quantize_arrays<'py>(
    py: Python<'py>,
    arrays: Vec<Given<'py>>,
    keywords: Bound<'py, PyAny>,
    threads: Option<i64>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Vec<Option<Bound<'py, PyArray1<f32>>>>> {
    let options = Keywords::of(&keywords)?.options()?;
    let arrays = named(&arrays)?;
    let decoded = job::run(py, threads, progress.as_ref(), |events, _| {
        campana_pipeline::quantize_arrays(&arrays, &options, events)
    })?;
    let decoded = decoded.map_err(unsound)?.into_iter();
    Ok(decoded
        .map(|values| values.map(|values| values.into_pyarray(py)))
        .collect())
}

/// Describes the weights among arrays.
#[pyfunction]
pub(crate) fn inspect_arrays(
    py: Python<'_>,
    arrays: Vec<Given<'_>>,
    threads: Option<i64>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let arrays = named(&arrays)?;
    let inspection = job::run(py, threads, progress.as_ref(), |events, _| {
        campana_pipeline::inspect_arrays("arrays", &arrays, events)
    })?;
    json(&inspection.map_err(unsound)?)
}

/// The exception for an error of arrays: what would make a file malformed is
/// an argument here.
fn unsound(error: Error) -> PyErr {
    match error.kind() {
        ErrorKind::Malformed => argument(in_python(error.chain())),
        _ => exception(error),
    }
}
