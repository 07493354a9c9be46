//! A bar on stderr where that is a terminal, and nothing elsewhere.

use campana_pipeline::Monitor;
use campana_quantize::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt;
use crate::printer::{is_quiet, note, visible};

/// A bar that is shown unless nothing but errors is to be.
pub(crate) fn shown(bar: ProgressBar) -> ProgressBar {
    if is_quiet() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// A bar that counts, of a length that its user sets.
pub(crate) fn counting(template: &str) -> ProgressBar {
    let bar = shown(ProgressBar::no_length());
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.expect("the template is valid"));
    bar
}

/// Shows how many of a job's steps are done, while `work` tells it; it is told whether
/// to go on.
pub(crate) fn counted<T>(
    steps: &str,
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> bool) -> T,
) -> T {
    let bar = counting(&format!("{{bar:30}} {{pos}}/{{len}} {steps}"));
    let outcome = work(&mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        !interrupt::is_requested()
    });
    bar.finish_and_clear();
    outcome
}

/// Shows how many weights are quantized, and passes Ctrl-C on.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that appears with the first tensor, and begins anew with each
    /// stage of a job.
    pub(crate) fn new() -> Self {
        Self(counting("{bar:30} {percent:>3} %  {msg}"))
    }
}

impl Progress for Bar {
    fn start(&self, weights: u64) {
        self.0.set_position(0);
        self.0.set_length(weights);
    }

    fn tensor_done(&self, name: &str, weights: u64) {
        self.0.inc(weights);
        self.0.set_message(visible(name));
    }

    fn distilled(&self, step: u64, steps: u64, divergence: f64) {
        self.0.set_length(steps);
        self.0.set_position(step);
        self.0
            .set_message(format!("distilling, divergence {divergence:.4}"));
    }

    fn is_cancelled(&self) -> bool {
        interrupt::is_requested()
    }
}

impl Monitor for Bar {
    fn image_skipped(&self, name: &str, reason: &str) {
        self.0.suspend(|| note!("skipped {name}: {reason}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
