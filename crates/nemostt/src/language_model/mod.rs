// SPDX-License-Identifier: MIT OR Apache-2.0

//! N-gram language models over the tokens of a model, for beam search.
//!
//! They are read from ARPA files as NeMo's scripts write them (`train_kenlm.py`), and score as its `NGramGPULanguageModel`.

mod arpa;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod ngram;
#[cfg(test)]
mod tests;

use std::{
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
};

use nemostt_compiler::regular_file;

use self::ngram::NGrams;
use crate::{
    error::{Error, Result},
    model::Cancellation,
};

/// Maximum bytes of a file: 50 million n-grams, the most there may be, in lines of 100 bytes with room to spare.
const MAX_BYTES: u64 = 8 << 30;

/// An n-gram language model over the tokens of a model. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    ngrams: Arc<NGrams>,
}

impl LanguageModel {
    /// Reads an ARPA file whose symbols are the characters that stand for `tokens` tokens.
    ///
    /// # Errors
    /// [`Error::Read`], also if it is not a regular file or too large; [`Error::LanguageModel`] if it is not such a model; [`Error::Cancelled`].
    pub(crate) fn read(path: &Path, tokens: usize, cancellation: &Cancellation) -> Result<Self> {
        let (file, _) = regular_file::open(path, MAX_BYTES).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        let is_cancelled = || cancellation.check().is_err();
        // The file may grow in the meantime.
        let ngrams = arpa::read(BufReader::new(file.take(MAX_BYTES)), tokens, is_cancelled);
        // What was read until then is not all of it.
        cancellation.check()?;
        let ngrams = ngrams.map_err(|reason| Error::LanguageModel {
            path: path.into(),
            reason,
        })?;
        Ok(Self {
            ngrams: Arc::new(ngrams),
        })
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(text: &[u8], tokens: usize) -> std::result::Result<Self, String> {
        Ok(Self {
            ngrams: Arc::new(arpa::read(text, tokens, || false)?),
        })
    }

    /// Its longest n-grams.
    pub fn order(&self) -> usize {
        self.ngrams.order()
    }

    /// Number of tokens of the models that it can be used with.
    pub(crate) fn tokens(&self) -> usize {
        self.ngrams.tokens()
    }

    /// The context at the start of a sentence.
    pub(crate) fn start(&self) -> u32 {
        ngram::BOS
    }

    /// Writes the natural logarithm of the probability of each token in `context`.
    pub(crate) fn scores(&self, context: u32, scores: &mut [f32]) {
        self.ngrams.scores(context, scores);
    }

    /// The context after `token`.
    pub(crate) fn next(&self, context: u32, token: usize) -> u32 {
        self.ngrams.next(context, token)
    }

    /// Natural logarithm of the probability that the sentence ends in `context`.
    pub(crate) fn end(&self, context: u32) -> f32 {
        self.ngrams.end(context)
    }
}
