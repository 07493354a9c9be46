//! What the layers that read some weights take.

use campana_ir::graph::Node;
use campana_quantize::Error;

use crate::correct::activation_cache::ActivationCache;
use crate::correct::inputs::{Gatherer, Windows};
use crate::correct::moments::InputMoments;
use crate::correct::state::Correction;

/// Inputs of the largest layer that is solved as a whole: a Hessian of 340 MB.
pub(crate) const MAX_INPUTS: usize = 9216;

/// What a layer takes.
pub(super) struct LayerInput<'g> {
    name: &'g str,
    pub(super) windows: Windows,
    /// Images that it is seen on.
    images: usize,
}

impl LayerInput<'_> {
    pub(super) fn gatherer(&self) -> Gatherer {
        Gatherer::new(self.windows.clone(), self.images)
    }
}

impl Correction<'_, '_, '_> {
    /// What the layers with the weights of this one, of this shape, take; `None`
    /// where one of them takes it in an uncommon way.
    pub(super) fn layer_inputs(&self, node: &Node, shape: &[usize]) -> Option<Vec<LayerInput<'_>>> {
        let layers = self.layers_with_weights_of(node).into_iter();
        let inputs = layers.map(|layer| {
            let name = &*layer.inputs[0];
            let share = self.caches[0].share_shown(&self.graph, name);
            Some(LayerInput {
                name,
                windows: Windows::of(layer, self.graph.opset(), shape)?,
                images: (self.images as f64 * share).ceil() as usize,
            })
        });
        inputs.collect()
    }

    /// Adds the moments of an input of a layer, and of what the layer's outputs
    /// are added to.
    pub(super) fn add_moments(
        &self,
        moments: &mut InputMoments<'_>,
        input: &LayerInput<'_>,
        mut gatherer: Gatherer,
        addend: Option<&str>,
    ) -> Result<(), Error> {
        let names: Vec<&str> = std::iter::once(input.name).chain(addend).collect();
        ActivationCache::visit_both(
            [&self.caches[0], &self.caches[1]],
            [&self.graph, &self.quantized_graph],
            &names,
            self.threads,
            |values| moments.add(&mut gatherer, values[0], values.get(1).copied()),
        )
    }
}
