// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations whose panics are errors: a panic must not unwind through ONNX Runtime, and else would end the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};

use super::super::kernel_io::Tensors;

/// What an operation of a graph does in a run.
pub(super) trait Compute: Send {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()>;
}

/// An operation, or the kernel of one.
pub(super) struct PanicGuard<T>(pub(super) T);

/// What `work` gives. What it had half written is not used again: the load or the run ends.
fn catch_panic<T>(work: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}

/// The error in place of a panic.
pub(in super::super) fn panicked() -> ort::Error {
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
        // SAFETY: the only ones of this run. All our operations declare outputs of float32. Bound in place are caches of
        // attention only (`EncoderState::new`), and who has to do with them asks for places.
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

    /// A graph of one operation `Odd` of domain `test`, from one number to one of float32. The byte is the element type of what
    /// it takes.
    const GRAPH: [&[u8]; 3] = [
        b"\x08\x07\x3a\x38\x0a\x11\x0a\x01x\x12\x01y\x22\x03Odd\x3a\x04test\x12\x01g\
          \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08",
        &[1],
        b"\x12\x04\x0a\x02\x08\x01\x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
          \x42\x02\x10\x0d\x42\x08\x0a\x04test\x10\x01",
    ];

    #[derive(Clone, Copy, PartialEq)]
    enum Odd {
        Loaded,
        FusedSubgraphOp,
        InAPiece,
        AsksTwice,
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
            assert!(*self != Self::Loaded, "meant");
            Ok(PanicGuard(*self))
        }
    }

    impl Compute for Odd {
        fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
            assert!(*self != Self::FusedSubgraphOp, "meant");
            let (sizes, input) = tensors.input(0)?;
            let output = tensors.output(0, sizes)?;
            output.copy_from_slice(input);
            if *self == Self::AsksTwice {
                tensors.output(0, sizes)?;
            }
            tensors.parallel_for(4, |task| assert!(*self != Self::InAPiece || task != 2, "meant"))
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
    fn a_panic_is_an_error_and_the_next_run_is_sound() {
        let _one_at_a_time = crate::sync::lock(&crate::model::runtime::CUSTOM_DOMAIN_LOADED);
        assert!(error(session(Odd::Loaded, 1)).contains("panicked"));
        let input = || Tensor::<f32>::new(&Allocator::default(), [1_i64]).unwrap();
        for odd in [Odd::FusedSubgraphOp, Odd::InAPiece] {
            let mut session = session(odd, 1).unwrap();
            for _ in 0..3 {
                assert!(error(session.run(ort::inputs![input()])).contains("panicked"));
            }
        }
        let twice = session(Odd::AsksTwice, 1).unwrap().run(ort::inputs![input()]).err();
        assert!(twice.is_some_and(|error| error.to_string().contains("an output twice")));
        session(Odd::Sound, 1).unwrap().run(ort::inputs![input()]).unwrap();
        // A quarter of the bytes that float32 has.
        let mut session = session(Odd::Sound, 2).unwrap();
        let bytes = Tensor::<u8>::new(&Allocator::default(), [1_i64]).unwrap();
        assert!(error(session.run(ort::inputs![bytes])).contains("element type"));
    }
}
