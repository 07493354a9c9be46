//! What JavaScript calls.

use std::sync::atomic::{AtomicU64, Ordering};

use campana_kernels::Isa;
use campana_pipeline::Monitor;
use campana_quantize::Progress;
use campana_tensor::Tensor;
use wasm_bindgen::prelude::*;

use crate::{Choices, Described, Error, Inspected, Network, Session, Smaller, network, session};

#[wasm_bindgen]
extern "C" {
    /// The caller's function that hears how far a job is: in which of its
    /// passes over all weights, and how many weights of how many are done.
    #[wasm_bindgen(js_name = campanaProgress)]
    fn report_progress(pass: f64, done: f64, total: f64);

    /// And of pictures that could not be read.
    #[wasm_bindgen(js_name = campanaSkipped)]
    fn report_skipped(name: &str, reason: &str);
}

/// Tells the caller; nothing but ending the worker stops a job.
#[derive(Debug, Default)]
struct Caller {
    pass: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress for Caller {
    fn start(&self, weights: u64) {
        let pass = self.pass.fetch_add(1, Ordering::Relaxed) + 1;
        self.done.store(0, Ordering::Relaxed);
        self.total.store(weights, Ordering::Relaxed);
        report_progress(pass as f64, 0.0, weights as f64);
    }

    fn tensor_done(&self, _name: &str, weights: u64) {
        let pass = self.pass.load(Ordering::Relaxed);
        let done = self.done.fetch_add(weights, Ordering::Relaxed) + weights;
        let total = self.total.load(Ordering::Relaxed);
        report_progress(pass as f64, done as f64, total as f64);
    }
}

impl Monitor for Caller {
    fn image_skipped(&self, name: &str, reason: &str) {
        report_skipped(name, reason);
    }
}

fn said(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

/// What instructions this module uses: `portable`, `simd128` or `relaxed-simd`.
#[wasm_bindgen]
pub fn level() -> String {
    Isa::detect().name().to_owned()
}

/// A network in memory.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebNetwork(Network);

#[wasm_bindgen]
impl WebNetwork {
    /// Reads an ONNX file.
    ///
    /// # Errors
    ///
    /// As [`Network::read`].
    #[wasm_bindgen(constructor)]
    pub fn new(name: &str, bytes: Vec<u8>) -> Result<WebNetwork, JsError> {
        Network::read(name, bytes).map(Self).map_err(said)
    }

    /// Adds a picture, PNG or JPEG, that the correction looks at.
    #[wasm_bindgen(js_name = addPicture)]
    pub fn add_picture(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.add_picture(name, bytes);
    }

    /// Forgets all pictures.
    #[wasm_bindgen(js_name = clearPictures)]
    pub fn clear_pictures(&mut self) {
        self.0.clear_pictures();
    }

    /// What is known of its weights.
    ///
    /// # Errors
    ///
    /// As [`Network::inspect`].
    pub fn inspect(&self, bits: u8) -> Result<WebInspected, JsError> {
        let inspected = self.0.inspect(bits, &Caller::default());
        inspected.map(WebInspected).map_err(said)
    }

    /// A smaller network and the page about it; `choices` are the JSON of
    /// [`Choices`].
    ///
    /// # Errors
    ///
    /// As [`Network::quantize`].
    pub fn quantize(&self, choices: &str) -> Result<WebSmaller, JsError> {
        let smaller = Choices::parse(choices)
            .and_then(|choices| self.0.quantize(&choices, &Caller::default()));
        smaller.map(WebSmaller).map_err(said)
    }
}

/// What is known of a network's weights.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebInspected(Inspected);

#[wasm_bindgen]
impl WebInspected {
    /// The page about them.
    #[wasm_bindgen(getter)]
    pub fn page(&self) -> String {
        self.0.page.clone()
    }

    /// The same as JSON.
    #[wasm_bindgen(getter)]
    pub fn report(&self) -> String {
        self.0.report.clone()
    }
}

/// What became of a network.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebSmaller(Smaller);

#[wasm_bindgen]
impl WebSmaller {
    /// The file, which is given once.
    #[wasm_bindgen(js_name = takeModel)]
    pub fn take_model(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.model)
    }

    /// What the file may be called.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.name.clone()
    }

    /// The page that says what was lost.
    #[wasm_bindgen(getter)]
    pub fn page(&self) -> String {
        self.0.page.clone()
    }

    /// The same as JSON.
    #[wasm_bindgen(getter)]
    pub fn report(&self) -> String {
        self.0.report.clone()
    }
}

/// A network that runs.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebSession {
    session: Session,
    given: Vec<(String, Tensor)>,
    outputs: Vec<Tensor>,
}

#[wasm_bindgen]
impl WebSession {
    /// Opens an ONNX file or a container.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>) -> Result<WebSession, JsError> {
        let session = Session::open(bytes).map_err(said)?;
        Ok(Self {
            session,
            given: Vec::new(),
            outputs: Vec::new(),
        })
    }

    /// What a run takes.
    pub fn inputs(&self) -> Vec<WebValue> {
        self.session.inputs().into_iter().map(WebValue).collect()
    }

    /// What a run gives.
    pub fn outputs(&self) -> Vec<WebValue> {
        self.session.outputs().into_iter().map(WebValue).collect()
    }

    /// Bytes of weights and other constants in memory.
    #[wasm_bindgen(getter, js_name = weightBytes)]
    pub fn weight_bytes(&self) -> f64 {
        self.session.weight_bytes() as f64
    }

    /// Gives an input for the next run.
    ///
    /// # Errors
    ///
    /// As [`session::tensor`].
    pub fn give(
        &mut self,
        name: String,
        element_type: &str,
        dims: &[u32],
        bytes: &[u8],
    ) -> Result<(), JsError> {
        let dims = dims.iter().map(|&extent| extent as usize).collect();
        let tensor = session::tensor(element_type, dims, bytes).map_err(said)?;
        self.given.push((name, tensor));
        Ok(())
    }

    /// Runs on what was given since the last run; the outputs stay until the next.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    pub fn run(&mut self) -> Result<(), JsError> {
        let given = std::mem::take(&mut self.given);
        self.outputs = self.session.run(&given).map_err(said)?;
        Ok(())
    }

    /// The type of an output of the last run.
    #[wasm_bindgen(js_name = outputType)]
    pub fn output_type(&self, index: usize) -> Option<String> {
        let output = self.outputs.get(index)?;
        Some(output.data().element_type().to_string())
    }

    /// Its extents.
    #[wasm_bindgen(js_name = outputDims)]
    pub fn output_dims(&self, index: usize) -> Option<Vec<u32>> {
        let extents = self.outputs.get(index)?.shape().iter();
        Some(extents.map(|&extent| extent as u32).collect())
    }

    /// Its elements, little-endian; none where the type has no bytes.
    #[wasm_bindgen(js_name = outputBytes)]
    pub fn output_bytes(&self, index: usize) -> Option<Vec<u8>> {
        self.outputs.get(index)?.data().to_le_bytes()
    }
}

/// What a network declares of an input or output.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebValue(Described);

#[wasm_bindgen]
impl WebValue {
    /// Its name.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.name.clone()
    }

    /// Its type as NumPy calls it; empty where none is declared.
    #[wasm_bindgen(getter, js_name = type)]
    pub fn element_type(&self) -> String {
        self.0.element_type.clone()
    }

    /// Its extents, -1 where a run decides; undefined where there is not even a rank.
    #[wasm_bindgen(getter)]
    pub fn dims(&self) -> Option<Vec<i32>> {
        self.0.dims.clone()
    }
}

/// A PNG or JPEG picture as a network takes it, by the text of its sidecar.
///
/// # Errors
///
/// As [`prepare_picture`](crate::prepare_picture).
#[wasm_bindgen(js_name = preparePicture)]
pub fn prepare_picture(sidecar: &str, name: &str, bytes: &[u8]) -> Result<Vec<f32>, JsError> {
    crate::prepare_picture(sidecar, name, bytes).map_err(said)
}

/// The pixels of a canvas as a network takes them, by the text of its sidecar.
///
/// # Errors
///
/// As [`prepare_pixels`](crate::prepare_pixels).
#[wasm_bindgen(js_name = preparePixels)]
pub fn prepare_pixels(
    sidecar: &str,
    width: usize,
    height: usize,
    rgba: &[u8],
) -> Result<Vec<f32>, JsError> {
    crate::prepare_pixels(sidecar, [width, height], rgba).map_err(said)
}

/// The names of all methods, the default first.
#[wasm_bindgen]
pub fn methods() -> Vec<String> {
    network::methods()
}

/// The names of all targets that are one file, the default first.
#[wasm_bindgen]
pub fn targets() -> Vec<String> {
    network::targets()
}
