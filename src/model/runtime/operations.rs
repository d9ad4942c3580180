// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our own operations, as ONNX Runtime calls them: inputs and outputs are unpacked here, [`crate::kernels`] does the rest.
//!
//! Pieces of the work go to the threads that ONNX Runtime's own operations use. Nothing here panics on what a graph holds:
//! an error of a kernel is an error of the run.

use std::sync::Arc;

use ort::{
    operator::{
        ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
        ShapeInferenceContext,
    },
    value::{TensorElementType, TensorValueType, ValueType},
};

use super::tensors::{self, Sizes};
use crate::{
    graph::{
        ATTENTION, CONVOLUTION, DOMAIN, EPSILON, GATES, NORMALISATION, NUMBER, PADS, PRODUCT, RECTIFIES, SCALE, SHARED,
        STRIDES, SUBSAMPLING,
    },
    kernels::{
        attention::{self, Attention, Results, Step},
        convolution::Convolution,
        matrix::{Output, Room, Weights},
        normalisation::Normalisation,
        subsampling::{self, Subsampling},
    },
};

/// All of them, with the weights of a graph's products.
pub(super) fn all(products: Vec<Arc<Weights>>) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(Product(products))?
        .add(Attend)?
        .add(Convolve)?
        .add(Normalise)?
        .add(Subsample)
}

/// Our own operation for products with constant weights.
struct Product(Vec<Arc<Weights>>);

impl Operator for Product {
    type Kernel<'attr> = ProductKernel;

    fn name(&self) -> &str {
        PRODUCT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let float = TensorElementType::Float32;
        [OperatorInput::required(float), OperatorInput::optional(float)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<ProductKernel> {
        let weights = self.weights(context.get(NUMBER))?;
        Ok(ProductKernel {
            weights,
            room: Room::default(),
        })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let weights = self.weights(context.attr(NUMBER).ok())?;
        // No axes: how many there are is not known, nor of the output.
        if let [input, ..] = &mut context.inputs()[..]
            && let ValueType::Tensor { shape, .. } = input
            && let Some(last) = shape.last_mut()
        {
            *last = weights.columns() as i64;
            context.set_output(0, input)?;
        }
        Ok(())
    }
}

impl Product {
    fn weights(&self, number: Option<i64>) -> ort::Result<Arc<Weights>> {
        let number = number.and_then(|number| usize::try_from(number).ok());
        let found = number.and_then(|number| self.0.get(number));
        found
            .cloned()
            .ok_or_else(|| ort::Error::new("a product has no weights"))
    }
}

/// One product of a graph.
struct ProductKernel {
    weights: Arc<Weights>,
    /// Where its input is made ready, from step to step.
    room: Room,
}

impl Kernel for ProductKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let weights = &*self.weights;
        let (mut sizes, input) = tensors::input(context, 0)?;
        match sizes.last_mut() {
            Some(last) if *last == weights.depth() as i64 => *last = weights.columns() as i64,
            _ => {
                return Err(ort::Error::new(
                    "rows of a product are of another width than its weights",
                ));
            }
        }
        let more = match context.num_inputs()? {
            1 => None,
            _ => Some(tensors::input(context, 1)?.1),
        };
        let output = tensors::output(context, 0, sizes)?;
        if more.is_some_and(|more| more.len() != output.len()) {
            return Err(ort::Error::new("what is added to a product is of another size"));
        }
        let output = Output::new(output, weights.columns());
        let input = weights.prepare(input, &mut self.room);
        tensors::for_each_piece(context, weights.pieces(), |piece| {
            // SAFETY: each piece is done once.
            #[allow(unsafe_code)]
            unsafe {
                weights.multiply(piece, input, more, &output);
            }
        })
    }
}

/// Our own operation for attention: see [`ATTENTION`] for its inputs.
struct Attend;

impl Operator for Attend {
    type Kernel<'attr> = AttendKernel;

    fn name(&self) -> &str {
        ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let float = || OperatorInput::required(TensorElementType::Float32);
        let number = || OperatorInput::required(TensorElementType::Int64);
        (0..9).map(move |_| float()).chain([number(), number()])
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..3).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttendKernel> {
        let floats = |input: usize| constant(context, input);
        let ((sizes, bias_u), (_, bias_v), (_, positions)) = (floats(6)?, floats(7)?, floats(8)?);
        let places = context.constant_input::<TensorValueType<i64>>(9)?;
        let (table, places) = places.extract_tensor();
        let (&[heads, width], &[frames, keys]) = (&sizes[..], &table[..]) else {
            return Err(ort::Error::new("the tables of an attention have other axes"));
        };
        let sizes = attention::Sizes {
            heads,
            width,
            frames: frames as usize,
            left: (keys - frames).max(0) as usize,
        };
        // None is negative in what the plan writes; as large ones they are refused.
        let places: Vec<usize> = places.iter().map(|&place| place as usize).collect();
        let scale = context.get(SCALE).unwrap_or(1.0);
        Attention::new(sizes, scale, [bias_u, bias_v], &positions, &places)
            .map(AttendKernel)
            .ok_or_else(|| ort::Error::new("the tables of an attention do not fit each other"))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        like_first_input(context)
    }
}

/// One layer's attention.
struct AttendKernel(Attention);

impl Kernel for AttendKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let attention = &self.0;
        let input = |index: usize| tensors::input(context, index).map(|(_, values)| values);
        let step = Step {
            queries: input(0)?,
            keys: [input(1)?, input(2)?],
            values: [input(3)?, input(4)?],
            mask: input(5)?,
            // As with places: a negative one is refused.
            oldest: tensors::number(context, 10)? as usize,
        };
        if !attention.takes(&step) {
            return Err(ort::Error::new("the inputs of an attention do not fit its tables"));
        }
        let (sizes, width) = (attention.sizes, attention.sizes.all());
        let of_heads = Sizes::of_heads(sizes.heads, sizes.frames, sizes.width);
        let rows = [
            tensors::output(context, 1, of_heads)?,
            tensors::output(context, 2, of_heads)?,
        ];
        let results = Results {
            output: Output::new(tensors::output(context, 0, Sizes::of_rows(sizes.frames, width))?, width),
            rows: rows.map(|rows| Output::new(rows, sizes.width)),
        };
        tensors::for_each_piece(context, sizes.heads, |head| {
            // SAFETY: each head is done once.
            #[allow(unsafe_code)]
            unsafe {
                attention.attend(head, &step, &results);
            }
        })
    }
}

/// Says that the first output is as large as the first input.
fn like_first_input(context: &mut ShapeInferenceContext) -> ort::Result<()> {
    match context.inputs().first() {
        Some(input) => context.set_output(0, input),
        None => Ok(()),
    }
}

/// Sizes and values of a constant input.
fn constant(context: &KernelContext<'_>, input: usize) -> ort::Result<(Vec<usize>, Vec<f32>)> {
    let tensor = context.constant_input::<TensorValueType<f32>>(input)?;
    let (shape, values) = tensor.extract_tensor();
    let sizes = shape.iter().map(|&size| size.max(0) as usize).collect();
    Ok((sizes, values.to_vec()))
}

/// Our own operation for the middle of a convolution module: see [`CONVOLUTION`] for its inputs.
struct Convolve;

impl Operator for Convolve {
    type Kernel<'attr> = ConvolveKernel;

    fn name(&self) -> &str {
        CONVOLUTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..4).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..2).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<ConvolveKernel> {
        let ((_, weights), (_, bias)) = (constant(context, 2)?, constant(context, 3)?);
        let made = Convolution::new(&weights, bias);
        made.map(ConvolveKernel)
            .ok_or_else(|| ort::Error::new("the weights of a convolution do not fit its bias"))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        if let [rows, cache, ..] = &mut context.inputs()[..] {
            if let ValueType::Tensor { shape, .. } = rows
                && let Some(last) = shape.last_mut()
                && *last > 0
            {
                *last /= 2;
            }
            context.set_output(0, rows)?;
            context.set_output(1, cache)?;
        }
        Ok(())
    }
}

/// One layer's convolution.
struct ConvolveKernel(Convolution);

impl Kernel for ConvolveKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let convolution = &self.0;
        let (_, rows) = tensors::input(context, 0)?;
        let (cache_sizes, cache) = tensors::input(context, 1)?;
        if !convolution.takes(rows, cache) {
            return Err(ort::Error::new("the inputs of a convolution do not fit its weights"));
        }
        let (channels, left) = (convolution.channels(), convolution.left());
        let frames = rows.len() / (2 * channels);
        let output = tensors::output(context, 0, Sizes::of_rows(frames, channels))?;
        let next = tensors::output(context, 1, cache_sizes)?;
        let (output, next) = (Output::new(output, channels), Output::new(next, left));
        tensors::for_each_piece(context, convolution.pieces(), |piece| {
            // SAFETY: each piece is done once.
            #[allow(unsafe_code)]
            unsafe {
                convolution.convolve(piece, (rows, cache), (&output, &next));
            }
        })
    }
}

/// Our own operation for layer normalisation: see [`NORMALISATION`] for its inputs.
struct Normalise;

impl Operator for Normalise {
    type Kernel<'attr> = NormaliseKernel;

    fn name(&self) -> &str {
        NORMALISATION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..3).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<NormaliseKernel> {
        let ((_, scale), (_, bias)) = (constant(context, 1)?, constant(context, 2)?);
        let normalisation = Normalisation {
            scale,
            bias,
            epsilon: context.get(EPSILON).unwrap_or_default(),
            gates: context.get(GATES).unwrap_or(0_i64) != 0,
        };
        match normalisation.is_whole() {
            true => Ok(NormaliseKernel(normalisation)),
            false => Err(ort::Error::new(
                "scale and bias of a normalisation do not fit each other",
            )),
        }
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        like_first_input(context)
    }
}

/// One normalisation.
struct NormaliseKernel(Normalisation);

impl Kernel for NormaliseKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (mut sizes, rows) = tensors::input(context, 0)?;
        if sizes.last_mut().is_none_or(|last| *last != self.0.width() as i64) {
            return Err(ort::Error::new(
                "rows of a normalisation are of another width than its scale",
            ));
        }
        self.0.normalise(rows, tensors::output(context, 0, sizes)?);
        Ok(())
    }
}

/// Our own operation for strided convolutions: see [`SUBSAMPLING`] for its inputs.
struct Subsample;

impl Operator for Subsample {
    type Kernel<'attr> = SubsampleKernel;

    fn name(&self) -> &str {
        SUBSAMPLING
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..4).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<SubsampleKernel> {
        let ((sizes, weights), (_, bias)) = (constant(context, 2)?, constant(context, 3)?);
        let flag = |name: &str| context.get(name).unwrap_or(0_i64) != 0;
        // None is negative in what the plan writes; as large ones they are refused.
        let list = |name: &str| -> Option<Vec<usize>> {
            let list: Vec<i64> = context.get(name)?;
            Some(list.into_iter().map(|value| value as usize).collect())
        };
        let made = || {
            let &[_, _, rows, columns] = &sizes[..] else {
                return None;
            };
            let (strides, pads) = (list(STRIDES)?, list(PADS)?);
            let shape = subsampling::Shape {
                kernel: [rows, columns],
                strides: strides.try_into().ok()?,
                pads: pads.as_chunks().0.try_into().ok()?,
            };
            Subsampling::new(shape, &weights, bias, flag(SHARED), flag(RECTIFIES))
        };
        made()
            .map(SubsampleKernel)
            .ok_or_else(|| ort::Error::new("the weights of a strided convolution do not fit its attributes"))
    }
}

/// One strided convolution.
struct SubsampleKernel(Subsampling);

impl Kernel for SubsampleKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let convolution = &self.0;
        let ((_, input), (_, mask)) = (tensors::input(context, 0)?, tensors::input(context, 1)?);
        let Some(sizes) = convolution.sizes(input, mask) else {
            return Err(ort::Error::new(
                "the inputs of a strided convolution do not fit its weights",
            ));
        };
        let ([frames, bins], channels) = (sizes.output, convolution.channels());
        let output = tensors::output(context, 0, Sizes::of_rows(frames * bins, channels))?;
        let output = Output::new(output, bins * channels);
        tensors::for_each_piece(context, frames, |frame| {
            // SAFETY: each frame is computed once.
            #[allow(unsafe_code)]
            unsafe {
                convolution.convolve(frame, (input, mask), &output);
            }
        })
    }
}
