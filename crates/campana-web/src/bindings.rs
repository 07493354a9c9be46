//! What the page's worker calls.

use std::sync::atomic::{AtomicU64, Ordering};

use campana_quantize::{Progress, causes};
use wasm_bindgen::prelude::*;

use crate::{Network, Smaller, network};

#[wasm_bindgen]
extern "C" {
    /// The worker's function that tells the page how far a job is.
    #[wasm_bindgen(js_name = reportProgress)]
    fn report_progress(done: f64, total: f64);
}

/// Tells the page; nothing but ending the worker stops a job.
#[derive(Debug, Default)]
struct Page {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress for Page {
    fn start(&self, weights: u64) {
        self.total.store(weights, Ordering::Relaxed);
    }

    fn tensor_done(&self, _name: &str, weights: u64) {
        let done = self.done.fetch_add(weights, Ordering::Relaxed) + weights;
        report_progress(done as f64, self.total.load(Ordering::Relaxed) as f64);
    }
}

fn said(error: campana_quantize::Error) -> JsError {
    JsError::new(&causes(&error))
}

/// The network that the page is about.
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

    /// The page about its weights.
    ///
    /// # Errors
    ///
    /// As [`Network::inspect`].
    pub fn inspect(&self, bits: u8) -> Result<String, JsError> {
        self.0.inspect(bits, &Page::default()).map_err(said)
    }

    /// A smaller network and the page about it.
    ///
    /// # Errors
    ///
    /// As [`Network::quantize`].
    pub fn quantize(&self, bits: u8, method: &str) -> Result<WebSmaller, JsError> {
        let smaller = self.0.quantize(bits, method, &Page::default());
        smaller.map(WebSmaller).map_err(said)
    }
}

/// What became of it.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WebSmaller(Smaller);

#[wasm_bindgen]
impl WebSmaller {
    /// The ONNX file, which is given once.
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
}

/// The names of all methods, the default first.
#[wasm_bindgen]
pub fn methods() -> Vec<String> {
    network::methods()
}
