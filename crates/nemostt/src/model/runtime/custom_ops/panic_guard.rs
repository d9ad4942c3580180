// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns panics of operators into errors. A panic that unwinds into ONNX Runtime would abort the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};

use super::super::kernel_io::Tensors;

/// The kernel of an operator.
pub(super) trait Compute: Send {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()>;
}

/// An operator or a kernel whose panics are errors.
pub(super) struct PanicGuard<T>(pub(super) T);

/// Partially written values are not read, because the load or the run fails.
fn catch_panic<T>(work: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}

/// The error that replaces a panic.
pub(in crate::model::runtime) fn panicked() -> ort::Error {
    ort::Error::new("an operation of nemostt panicked: this is a fault in it, please report it")
}

impl<O: Operator> Operator for PanicGuard<O> {
    type Kernel<'attr> = O::Kernel<'attr>;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        self.0.inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.0.outputs()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        catch_panic(|| self.0.create_kernel(context))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        catch_panic(|| self.0.infer_shape(context))
    }
}

impl<K: Compute> Kernel for PanicGuard<K> {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        // SAFETY: called once per run. All our operators declare float32 outputs.
        #[allow(unsafe_code)]
        let tensors = unsafe { Tensors::of(context) };
        catch_panic(|| self.0.compute(&tensors))
    }
}

#[cfg(test)]
mod tests {
    use ort::{
        memory::Allocator,
        operator::OperatorDomain,
        session::Session,
        value::{Tensor, TensorElementType},
    };

    use super::*;
    use crate::model::runtime::environment::environment;

    /// A graph of one operator `Odd` of domain `test`, from one element to one of float32. The single byte is the element
    /// type of the input.
    const GRAPH: [&[u8]; 3] = [
        b"\x08\x07\x3a\x38\x0a\x11\x0a\x01x\x12\x01y\x22\x03Odd\x3a\x04test\x12\x01g\
          \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08",
        &[1],
        b"\x12\x04\x0a\x02\x08\x01\x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
          \x42\x02\x10\x0d\x42\x08\x0a\x04test\x10\x01",
    ];

    #[derive(Clone, Copy, PartialEq)]
    enum Odd {
        PanicsInLoad,
        PanicsInRun,
        PanicsInTask,
        WritesTwice,
        Sound,
    }

    impl Operator for Odd {
        type Kernel<'attr> = PanicGuard<Self>;

        fn name(&self) -> &str {
            "Odd"
        }

        fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
            [OperatorInput::variadic(1)]
        }

        fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
            [OperatorOutput::required(TensorElementType::Float32)]
        }

        fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PanicGuard<Self>> {
            assert!(*self != Self::PanicsInLoad, "expected");
            Ok(PanicGuard(*self))
        }
    }

    impl Compute for Odd {
        fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
            assert!(*self != Self::PanicsInRun, "expected");
            let (shape, input) = tensors.input(0)?;
            let output = tensors.output(0, shape)?;
            // SAFETY: both are valid, have the same length, and do not overlap.
            #[allow(unsafe_code)]
            unsafe {
                (*output).copy_from_slice(&*input);
            }
            if *self == Self::WritesTwice {
                tensors.output(0, shape)?;
            }
            tensors.parallel_for(4, |task| assert!(*self != Self::PanicsInTask || task != 2, "expected"))
        }
    }

    fn session(odd: Odd, kind: u8) -> ort::Result<Session> {
        let environment = environment(&[]).unwrap();
        let operators = OperatorDomain::new("test")?.add(PanicGuard(odd))?;
        let builder = Session::builder(&environment)?.with_intra_threads(2)?;
        let mut graph = GRAPH.concat();
        graph[GRAPH[0].len()] = kind;
        builder.with_operators(operators)?.commit_from_memory(&graph)
    }

    fn error<T>(result: ort::Result<T>) -> String {
        result.err().map_or("no error".into(), |error| error.to_string())
    }

    #[test]
    fn panics_become_errors() {
        let _one_at_a_time = crate::sync::lock(&crate::model::runtime::session::CUSTOM_DOMAIN_LOADED);
        assert!(error(session(Odd::PanicsInLoad, 1)).contains("panicked"));
        let input = || Tensor::<f32>::new(&Allocator::default(), [1_i64]).unwrap();
        for odd in [Odd::PanicsInRun, Odd::PanicsInTask] {
            let mut session = session(odd, 1).unwrap();
            for _ in 0..3 {
                assert!(error(session.run(ort::inputs![input()])).contains("panicked"));
            }
        }
        let twice = session(Odd::WritesTwice, 1).unwrap().run(ort::inputs![input()]).err();
        assert!(twice.is_some_and(|error| error.to_string().contains("an output twice")));
        session(Odd::Sound, 1).unwrap().run(ort::inputs![input()]).unwrap();
        // A tensor of a quarter of the bytes of float32.
        let mut session = session(Odd::Sound, 2).unwrap();
        let bytes = Tensor::<u8>::new(&Allocator::default(), [1_i64]).unwrap();
        assert!(error(session.run(ort::inputs![bytes])).contains("element type"));
    }
}
