//! Networks that run.

use std::path::PathBuf;

use campana_ir::format;
use campana_ir::graph::{Dim, Value};
use campana_pipeline::causes;
use campana_runtime::{Input, Plan, PlanOptions};
use campana_tensor::{ElementType, Tensor, TensorData};
use numpy::{Element, IntoPyArray, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{UnsupportedError, argument, exception};
use crate::job;

/// An output: its name, its shape and its flat elements.
pub(crate) type Output<'py> = (String, Vec<usize>, Bound<'py, PyAny>);

/// NumPy's names of types, by the names of values.
pub(crate) type Types = Vec<(String, Option<&'static str>)>;

/// A model that is ready to run.
#[pyclass(frozen, module = "campana")]
pub(crate) struct Session {
    session: campana_runtime::Session,
    /// The process that has the session's threads.
    process: u32,
}

#[pymethods]
impl Session {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, threads: Option<i64>) -> PyResult<Self> {
        let session = job::run(py, threads, None, |_, threads| {
            let graph = format::load(&path).map_err(|error| in_file(&path, exception(error)))?;
            let plan = Plan::new(&graph, PlanOptions::default())
                .map_err(|error| in_file(&path, UnsupportedError::new_err(causes(&error))))?;
            Ok::<_, PyErr>(campana_runtime::Session::new(plan, threads))
        })??;
        Ok(Self {
            session,
            process: std::process::id(),
        })
    }

    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        values(py, self.session.plan().inputs())
    }

    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        values(py, self.session.plan().outputs())
    }

    /// NumPy's names of the inputs' types; `None` where the model says none.
    #[getter]
    fn input_types(&self) -> Types {
        types(self.session.plan().inputs())
    }

    #[getter]
    fn weight_bytes(&self) -> usize {
        self.session.weight_bytes()
    }

    /// Runs on `(name, array)` pairs, the arrays row-major; the names, shapes
    /// and flat elements of the outputs.
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: Vec<(String, Bound<'py, PyAny>)>,
    ) -> PyResult<Vec<Output<'py>>> {
        if self.process != std::process::id() {
            return Err(argument(
                "the session was made before this process was forked; make it in the process that runs it",
            ));
        }
        let given: Vec<Given<'py>> = inputs
            .iter()
            .map(|(name, array)| Given::new(name, array))
            .collect::<PyResult<_>>()?;
        let named: Vec<(&str, Input<'_>)> = inputs
            .iter()
            .zip(&given)
            .map(|((name, _), given)| Ok((name.as_str(), given.input()?)))
            .collect::<PyResult<_>>()?;
        let outputs = py
            .detach(|| self.session.run(&named))
            .map_err(|error| argument(causes(&error)))?;
        arrays(py, self.session.plan(), outputs)
    }
}

/// The outputs of a run for Python.
pub(crate) fn arrays<'py>(
    py: Python<'py>,
    plan: &Plan,
    outputs: Vec<Tensor>,
) -> PyResult<Vec<Output<'py>>> {
    let names = plan.outputs().iter();
    names
        .zip(outputs)
        .map(|(value, output)| {
            let (shape, data) = output.into_parts();
            Ok((value.name.clone(), shape, array(py, &value.name, data)?))
        })
        .collect()
}

/// An input: floats where they are, a copy of all else.
enum Given<'py> {
    Floats(PyReadonlyArrayDyn<'py, f32>),
    Tensor(Tensor),
}

impl<'py> Given<'py> {
    fn new(name: &str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(floats) = array.extract() {
            return Ok(Self::Floats(floats));
        }
        tensor(array)
            .map(Self::Tensor)
            .ok_or_else(|| argument(format!("input '{name}' has a type that models do not take")))
    }

    fn input(&self) -> PyResult<Input<'_>> {
        Ok(match self {
            Self::Floats(array) => Input::F32 {
                shape: array.shape(),
                data: array.as_slice()?,
            },
            Self::Tensor(tensor) => tensor.into(),
        })
    }
}

/// A row-major array as a tensor; `None` for a type that models do not take.
pub(crate) fn tensor(array: &Bound<'_, PyAny>) -> Option<Tensor> {
    copied(array, TensorData::F32)
        .or_else(|| copied(array, TensorData::F64))
        .or_else(|| copied(array, TensorData::F16))
        .or_else(|| copied(array, TensorData::I64))
        .or_else(|| copied(array, TensorData::I32))
        .or_else(|| copied(array, TensorData::I16))
        .or_else(|| copied(array, TensorData::I8))
        .or_else(|| copied(array, TensorData::U64))
        .or_else(|| copied(array, TensorData::U32))
        .or_else(|| copied(array, TensorData::U16))
        .or_else(|| copied(array, TensorData::U8))
        .or_else(|| copied(array, TensorData::Bool))
}

/// A row-major array of one type as a tensor.
fn copied<T: Element + Clone>(
    array: &Bound<'_, PyAny>,
    data: impl FnOnce(Vec<T>) -> TensorData,
) -> Option<Tensor> {
    let array: PyReadonlyArrayDyn<'_, T> = array.extract().ok()?;
    let values = array.as_slice().ok()?.to_vec();
    Tensor::new(array.shape().to_vec(), data(values))
}

fn array<'py>(py: Python<'py>, name: &str, data: TensorData) -> PyResult<Bound<'py, PyAny>> {
    Ok(match data {
        TensorData::F32(data) => data.into_pyarray(py).into_any(),
        TensorData::F64(data) => data.into_pyarray(py).into_any(),
        TensorData::F16(data) => data.into_pyarray(py).into_any(),
        TensorData::I64(data) => data.into_pyarray(py).into_any(),
        TensorData::I32(data) => data.into_pyarray(py).into_any(),
        TensorData::I16(data) => data.into_pyarray(py).into_any(),
        TensorData::I8(data) => data.into_pyarray(py).into_any(),
        TensorData::U64(data) => data.into_pyarray(py).into_any(),
        TensorData::U32(data) => data.into_pyarray(py).into_any(),
        TensorData::U16(data) => data.into_pyarray(py).into_any(),
        TensorData::U8(data) => data.into_pyarray(py).into_any(),
        TensorData::Bool(data) => data.into_pyarray(py).into_any(),
        other => {
            return Err(UnsupportedError::new_err(format!(
                "output '{name}' is of type {:?}, which NumPy does not have",
                other.element_type()
            )));
        }
    })
}

/// NumPy's names of the types of values.
pub(crate) fn types(values: &[Value]) -> Types {
    let named = values.iter();
    named
        .map(|value| (value.name.clone(), value.element_type.and_then(type_name)))
        .collect()
}

fn type_name(element_type: ElementType) -> Option<&'static str> {
    Some(match element_type {
        ElementType::F32 => "float32",
        ElementType::F64 => "float64",
        ElementType::F16 => "float16",
        ElementType::I64 => "int64",
        ElementType::I32 => "int32",
        ElementType::I16 => "int16",
        ElementType::I8 => "int8",
        ElementType::U64 => "uint64",
        ElementType::U32 => "uint32",
        ElementType::U16 => "uint16",
        ElementType::U8 => "uint8",
        ElementType::Bool => "bool",
        _ => return None,
    })
}

pub(crate) fn values<'py>(py: Python<'py>, values: &[Value]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for value in values {
        let Some(dims) = &value.shape else {
            dict.set_item(&value.name, py.None())?;
            continue;
        };
        let extents = dims.iter().map(|dim| match dim {
            Dim::Fixed(extent) => Ok(extent.into_pyobject(py)?.into_any()),
            Dim::Symbol(name) => Ok(name.to_string().into_pyobject(py)?.into_any()),
        });
        dict.set_item(&value.name, extents.collect::<PyResult<Vec<_>>>()?)?;
    }
    Ok(dict)
}

/// An exception that names the file.
fn in_file(path: &std::path::Path, error: PyErr) -> PyErr {
    Python::attach(|py| {
        let text = format!("cannot load '{}': {}", path.display(), error.value(py));
        PyErr::from_type(error.get_type(py), text)
    })
}
