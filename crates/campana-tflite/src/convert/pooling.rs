//! Pools: MAX_POOL_2D, AVERAGE_POOL_2D, MEAN.

use campana_ir::op::Pool;

use super::Converter;
use super::window::Windows;
use crate::error::Converted;
use crate::layout::channels_last;
use crate::schema::{Code, Options, Padding, Quantization, Tensor, TensorType};

impl<'n> Converter<'n> {
    fn pool_windows(&self, at: usize, pool: &Pool) -> Converted<(Vec<usize>, Windows)> {
        let shape = self.values.shape(&self.network.node(at).inputs[0])?;
        let input = shape.get(2..).unwrap_or_default();
        let windows = Windows::new(&pool.window, input, &pool.window.kernel, pool.ceil)?;
        match pool.window.is_dilated() {
            true => Err("is dilated, which TFLite's pools are not".to_owned()),
            false => Ok((shape, windows)),
        }
    }

    pub(super) fn max_pool(&mut self, at: usize, pool: &Pool) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let (shape, windows) = self.pool_windows(at, pool)?;
        let params = self.values.params(input);
        let least = params.map_or(f32::MIN, |params| params.range()[0]);
        let (tensor, padding) = self.window_input(input, params, &windows, Some(least))?;
        let made = self.image(&shape, shape[1], &windows, params);
        let [height, width] = windows.outputs;
        let extents = vec![shape[0], height, width, shape[1]];
        let epilogue = self.epilogue(&node.outputs[0]);
        self.finish(&epilogue, made, extents, |values, output| {
            let options = Options::Pool {
                padding,
                strides: windows.strides,
                window: windows.kernel,
            };
            values.operator(Code::MaxPool2d, vec![tensor], output, options);
        });
        Ok(())
    }

    pub(super) fn average_pool(&mut self, at: usize, pool: &Pool) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let (shape, windows) = self.pool_windows(at, pool)?;
        let is_whole = windows.pads == [[0; 2]; 2];
        if pool.ceil && pool.count_padding && !is_whole {
            return Err("takes means of windows that end outside".to_owned());
        }
        let counts = pool.count_padding || is_whole;
        if !counts && windows.own_padding() != Some(Padding::Same) {
            return self.average_of_counted(at, &windows, &shape);
        }
        let epilogue = self.epilogue(&node.outputs[0]);
        let params = self.values.params(input);
        let rounded = self.rounded(epilogue.value).filter(|_| params.is_some());
        if let (Some(from), Some(to)) = (params, rounded)
            && counts
            && from != to
        {
            return self.average_by_products(input, &windows, &shape, (from, epilogue));
        }
        // TFLite's pool on int8 keeps the parameters of its input: rounding twice would cost a step.
        let params = params.filter(|_| rounded == params);
        let (tensor, padding) = match counts && !is_whole {
            true => {
                let images = self.images(input, params, &windows)?;
                let padded = self.padded(images, &windows.border(), None);
                (padded, Padding::Valid)
            }
            false => self.window_input(input, params, &windows, None)?,
        };
        let made = self.image(&shape, shape[1], &windows, params);
        let [height, width] = windows.outputs;
        let extents = vec![shape[0], height, width, shape[1]];
        self.finish(&epilogue, made, extents, |values, output| {
            let options = Options::Pool {
                padding,
                strides: windows.strides,
                window: windows.kernel,
            };
            values.operator(Code::AveragePool2d, vec![tensor], output, options);
        });
        Ok(())
    }

    /// Means of windows whose padding is not counted: means with zeros, times
    /// what these took from them.
    fn average_of_counted(&mut self, at: usize, windows: &Windows, shape: &[usize]) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let (tensor, padding) = self.window_input(input, None, windows, None)?;
        let [height, width] = windows.outputs;
        let extents = vec![shape[0], height, width, shape[1]];
        let whole = self.values.activation(output, extents.clone(), None);
        let options = Options::Pool {
            padding,
            strides: windows.strides,
            window: windows.kernel,
        };
        self.values
            .operator(Code::AveragePool2d, vec![tensor], whole, options);
        let share = |at: usize, place: usize| {
            let start = place * windows.strides[at];
            let (before, kernel) = (windows.pads[at][0], windows.kernel[at]);
            let end = (start + kernel).min(windows.input[at] + before);
            kernel as f32 / end.saturating_sub(start.max(before)).max(1) as f32
        };
        let factors = (0..height * width).map(|i| share(0, i / width) * share(1, i % width));
        let factors: Vec<f32> = factors.collect();
        let shape_of = vec![1, height, width, 1];
        let factors = self
            .values
            .floats(&format!("{output}/factors"), shape_of, &factors);
        let made = self.image(shape, shape[1], windows, None);
        let epilogue = self.epilogue(output);
        self.finish_activated(&epilogue, made, extents, |values, output, activation| {
            let inputs = vec![whole, factors];
            values.operator(Code::Mul, inputs, output, Options::Mul(activation));
        });
        Ok(())
    }

    /// Means as a depthwise convolution with weights of 1: TFLite's pool keeps
    /// the scale of its input, a convolution rounds once to that of its output.
    fn average_by_products(
        &mut self,
        input: &str,
        windows: &Windows,
        shape: &[usize],
        (params, epilogue): (crate::values::Params, super::epilogue::Epilogue<'n>),
    ) -> Converted {
        let channels = shape[1];
        let [rows, columns] = windows.kernel;
        let (tensor, padding) = self.window_input(input, Some(params), windows, None)?;
        let scale = 1.0 / (rows * columns) as f32;
        let per_channel = |scale: f32| Quantization {
            scales: vec![scale; channels],
            zero_point: 0,
            axis: 0,
        };
        let weights = self.values.tensor(Tensor {
            name: "mean".to_owned(),
            shape: vec![1, rows, columns, channels],
            element: TensorType::Int8,
            data: Some(vec![1; rows * columns * channels]),
            quantization: Some(Quantization {
                axis: 3,
                ..per_channel(scale)
            }),
        });
        let bias = self.values.tensor(Tensor {
            name: "no bias".to_owned(),
            shape: vec![channels],
            element: TensorType::Int32,
            data: Some(vec![0; 4 * channels]),
            quantization: Some(per_channel(scale * params.scale)),
        });
        let rounded = self.rounded(epilogue.value);
        let made = self.image(shape, channels, windows, rounded);
        let extents = vec![shape[0], windows.outputs[0], windows.outputs[1], channels];
        let (strides, dilations) = (windows.strides, windows.dilations);
        self.finish_activated(&epilogue, made, extents, |values, output, activation| {
            let options = Options::Depthwise {
                padding,
                strides,
                dilations,
                multiplier: 1,
                activation,
            };
            let inputs = vec![tensor, weights, bias];
            values.operator(Code::DepthwiseConv2d, inputs, output, options);
        });
        Ok(())
    }

    pub(super) fn global_average_pool(&mut self, at: usize) -> Converted {
        self.over_spatial_axes(at, Code::Mean)
    }

    pub(super) fn global_max_pool(&mut self, at: usize) -> Converted {
        self.over_spatial_axes(at, Code::ReduceMax)
    }

    /// A reduction over all axes behind the channels, which stay.
    fn over_spatial_axes(&mut self, at: usize, code: Code) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let shape = self.values.shape(input)?;
        if shape.len() < 3 {
            return Err("has no spatial axes".to_owned());
        }
        let axes: Vec<usize> = (2..shape.len()).collect();
        self.reduced(at, code.into(), channels_last(shape.len()), (&axes, true))
    }
}
