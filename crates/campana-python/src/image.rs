//! Images as a model takes them.

use std::path::PathBuf;

use campana_eval::{Preprocessing, RgbImage, Sidecar};
use campana_pipeline::sidecar;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::error::{argument, exception};

/// How a model's images are prepared.
#[pyclass(frozen, module = "campana")]
pub(crate) struct Preparation(Preprocessing);

#[pymethods]
impl Preparation {
    /// As the file beside a model says.
    #[staticmethod]
    fn of_model(path: PathBuf) -> PyResult<Self> {
        let sidecar = sidecar(&path).map_err(exception)?;
        Ok(Self(sidecar.preprocessing))
    }

    /// As the text of such a file says.
    #[staticmethod]
    fn of_text(text: &str) -> PyResult<Self> {
        let sidecar = Sidecar::parse(text, "sidecar").map_err(argument)?;
        Ok(Self(sidecar.preprocessing))
    }

    /// Extents of an image as the model takes it.
    #[getter]
    fn shape(&self) -> [usize; 3] {
        let [_, first, second, third] = self.0.input_shape(1);
        [first, second, third]
    }

    /// An image from the bytes of its pixels, `[height, width, 3]`.
    fn pixels<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray3<'py, u8>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let &[height, width, 3] = pixels.shape() else {
            return Err(argument(format!(
                "pixels must have the shape [height, width, 3], not {:?}",
                pixels.shape()
            )));
        };
        if height * width == 0 {
            return Err(argument("an image has at least one pixel"));
        }
        self.prepare(
            py,
            &RgbImage::new(width, height, pixels.as_slice()?.to_vec()),
            "the image",
        )
    }

    /// An image from a JPEG or PNG file.
    fn file<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let image = RgbImage::read(&path).map_err(exception)?;
        self.prepare(py, &image, &path.display().to_string())
    }
}

impl Preparation {
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        image: &RgbImage,
        name: &str,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let prepared = py.detach(|| campana_eval::preprocess(image, &self.0, name));
        Ok(prepared.map_err(exception)?.into_pyarray(py))
    }
}
