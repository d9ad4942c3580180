// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded model, shared by its streams.

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use crate::{
    boosting::{BoostingTree, Hotwords},
    error::Result,
    language_model::LanguageModel,
    memory_guard,
    metrics::EngineMetrics,
    model::{Cancellation, CpuFallback, Model, ModelConfig, Options},
    stream::Stream,
};

/// A loaded model. Cheap to clone: all clones and streams share the weights.
///
/// ```no_run
/// # fn main() -> nemostt::Result<()> {
/// use nemostt::{Event, Options, Recognizer};
///
/// let recognizer = Recognizer::load("model-directory", &Options::default())?;
/// let mut stream = recognizer.stream()?;
/// # let microphone: Vec<Vec<f32>> = Vec::new();
/// let mut print = |stream: &mut nemostt::Stream| {
///     while let Some(event) = stream.next_event() {
///         if let Event::Word(word) = event {
///             println!("{} {}", word.start, word.text);
///         }
///     }
/// };
/// for samples in microphone {
///     stream.accept(&samples)?;
///     print(&mut stream);
/// }
/// stream.finish(0)?;
/// print(&mut stream);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recognizer {
    model: Arc<Model>,
}

impl Recognizer {
    /// Loads the model in directory `path`: NeMo's export (`encoder-*.onnx` with `decoder_joint-*.onnx`, or one CTC
    /// graph, or all three) with `tokens.txt`, `vocab.txt` or `tokenizer.model`. `path` may also be an encoder or CTC
    /// graph, to choose one of several in its directory.
    ///
    /// # Errors
    /// If ONNX Runtime, a file or an option cannot be used. The message says what to do: see [`Error`](crate::Error).
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Ok(Self {
            model: Arc::new(Model::load(path.as_ref(), options)?),
        })
    }

    /// Loads the built-in demo model: about 100 words, trained on synthetic voices.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    #[cfg(feature = "embedded-model")]
    pub fn embedded(options: &Options) -> Result<Self> {
        Ok(Self {
            model: Arc::new(Model::embedded(options)?),
        })
    }

    /// Parameters of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// The graphs that were loaded.
    pub fn graphs(&self) -> &[crate::model::GraphFile] {
        &self.model.graphs
    }

    /// The outcome of each pass over its graphs, in order, whether it ran now or before the result was cached.
    pub fn passes(&self) -> Vec<crate::model::GraphPasses<'_>> {
        self.model.passes()
    }

    /// The piece of token `id`: what the vocabulary has for it; `None` if there is no such token.
    pub fn piece(&self, id: usize) -> Option<&crate::text::TokenText> {
        self.model.vocabulary.piece(id)
    }

    /// Builds what boosts `hotwords` in streams of this model: see [`Stream::set_boosting_tree`]. If it is in use already, it is
    /// shared instead. A list of thousands of phrases takes some milliseconds.
    ///
    /// # Errors
    /// [`Error::Hotwords`](crate::Error::Hotwords) if the model has no tokens for characters of a phrase, its tokenizer leaves
    /// nothing of it or makes it too long, or if there are more than 500,000 tokens.
    pub fn boosting_tree(&self, hotwords: &Hotwords) -> Result<BoostingTree> {
        self.model.boosting.get(&self.model.vocabulary, hotwords)
    }

    /// As [`boosting_tree`](Self::boosting_tree), but leaves out phrases that the model cannot write:
    /// [`BoostingTree::skipped`] names them.
    ///
    /// # Errors
    /// [`Error::Hotwords`](crate::Error::Hotwords) if none is left, or if there are more than 500,000 tokens.
    pub fn boosting_tree_of_usable(&self, hotwords: &Hotwords) -> Result<BoostingTree> {
        self.model.boosting.get_usable(&self.model.vocabulary, hotwords)
    }

    /// Reads an n-gram language model over the tokens of this model, for [`BeamConfig::language_model`](crate::BeamConfig::language_model):
    /// an ARPA file as NeMo's `train_kenlm.py` makes it.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read), and [`Error::LanguageModel`](crate::Error::LanguageModel), which names the line.
    pub fn language_model(&self, path: impl AsRef<Path>) -> Result<LanguageModel> {
        self.language_model_cancellable(path, &Cancellation::default())
    }

    /// As [`language_model`](Self::language_model); a large file takes seconds.
    ///
    /// # Errors
    /// As [`language_model`](Self::language_model), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn language_model_cancellable(
        &self,
        path: impl AsRef<Path>,
        cancellation: &Cancellation,
    ) -> Result<LanguageModel> {
        let tokens = self.model.config.vocabulary_size;
        LanguageModel::read(path.as_ref(), tokens, cancellation)
    }

    /// How many streams gain from running at the same time: their steps are computed together, or on different cores. 1 if
    /// streams are computed one after the other: on devices other than the CPU and CUDA, on CPUs without AVX2, with int8, and if
    /// the graph is not specialized.
    pub fn parallel_streams(&self) -> usize {
        self.model.encoder.parallel_streams()
    }

    /// What the streams of this model have done so far, on its device.
    pub fn metrics(&self) -> EngineMetrics {
        self.model.metrics()
    }

    /// As [`metrics`](Self::metrics); if the device has failed, also those of the model on the CPU, where streams go on, once
    /// it is loaded.
    pub fn all_metrics(&self) -> Vec<EngineMetrics> {
        let on_cpu = self.model.fallback.as_ref().and_then(CpuFallback::loaded_now);
        let on_cpu = on_cpu.map(|fallback| fallback.model.metrics());
        std::iter::once(self.metrics()).chain(on_cpu).collect()
    }

    /// Asks the servers of [`Options::remote`](crate::Options::remote) about the encoder, one after the other, each for as long as a
    /// request may take. Empty if the encoder runs here.
    #[cfg(feature = "triton")]
    pub fn servers(&self) -> Vec<crate::ServerStatus> {
        let remote = self.model.encoder.on_server();
        remote.map(crate::model::RemoteEncoder::status).unwrap_or_default()
    }

    /// A handle that does not keep the model in memory.
    pub fn downgrade(&self) -> WeakRecognizer {
        WeakRecognizer(Arc::downgrade(&self.model))
    }

    /// Whether both share one model.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }

    /// A new stream.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::NoPlace`](crate::Error::NoPlace) if a device has no place
    /// for another one: see [`Options::max_streams`](crate::Options::max_streams).
    pub fn stream(&self) -> Result<Stream> {
        memory_guard::check("create a stream")?;
        Stream::new(self.model.clone())
    }
}

/// A [`Recognizer`] that does not keep its model in memory.
#[derive(Clone)]
pub struct WeakRecognizer(Weak<Model>);

impl WeakRecognizer {
    /// The recognizer, if its model is still in use.
    pub fn upgrade(&self) -> Option<Recognizer> {
        self.0.upgrade().map(|model| Recognizer { model })
    }
}

impl std::fmt::Debug for Recognizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Recognizer").field(self.config()).finish()
    }
}
