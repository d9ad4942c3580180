// SPDX-License-Identifier: MIT OR Apache-2.0

//! N-grams as contexts with arcs between them: `SuffixTreeStorage` and `NGramGPULanguageModel` in NeMo's
//! `ngram_lm_batched.py`.

use std::collections::HashMap;

/// The context of no tokens.
pub(super) const START: u32 = 0;
/// The context at the start of a sentence.
pub(super) const BOS: u32 = 1;
/// What NeMo takes for the logarithm of 0.
const NEVER: f32 = -10_000.0;

/// A token that may follow a context.
#[derive(Debug, Clone, Copy)]
struct Arc {
    token: u32,
    to: u32,
    weight: f32,
}

/// A context: tokens that others may follow.
#[derive(Debug, Clone, Copy)]
struct Context {
    first_arc: usize,
    /// The context without its first token, and what going there adds.
    shorter: u32,
    backoff: f32,
    /// Of the end of the sentence.
    end: f32,
}

impl Context {
    fn new(shorter: u32, backoff: f32) -> Self {
        Self {
            first_arc: 0,
            shorter,
            backoff,
            end: NEVER,
        }
    }
}

/// A language model.
#[derive(Debug)]
pub(super) struct NGrams {
    order: usize,
    contexts: Vec<Context>,
    /// Those of a context follow each other, in the order of their tokens.
    arcs: Vec<Arc>,
    /// Weight and next context of each token without context.
    unigrams: Vec<(f32, u32)>,
}

impl NGrams {
    pub(super) fn order(&self) -> usize {
        self.order
    }

    pub(super) fn tokens(&self) -> usize {
        self.unigrams.len()
    }

    /// `context` and those that it backs off to, with the sum of back-off weights up to there.
    fn chain(&self, context: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        std::iter::successors(Some((context, 0.0)), |&(context, sum)| {
            let Context { shorter, backoff, .. } = self.contexts[context as usize];
            (context != START).then_some((shorter, sum + backoff))
        })
    }

    fn arcs(&self, context: u32) -> &[Arc] {
        let first = |context: usize| {
            let context = self.contexts.get(context);
            context.map_or(self.arcs.len(), |context| context.first_arc)
        };
        &self.arcs[first(context as usize)..first(context as usize + 1)]
    }

    pub(super) fn scores(&self, context: u32, scores: &mut [f32]) {
        let chain: Vec<(u32, f32)> = self.chain(context).collect();
        for &(context, backoff) in chain.iter().rev() {
            if context == START {
                let unigrams = scores.iter_mut().zip(&self.unigrams);
                unigrams.for_each(|(score, (weight, _))| *score = backoff + weight);
            }
            for arc in self.arcs(context) {
                if let Some(score) = scores.get_mut(arc.token as usize) {
                    *score = backoff + arc.weight;
                }
            }
        }
    }

    pub(super) fn next(&self, context: u32, token: usize) -> u32 {
        let find = |(context, _)| {
            let arcs = self.arcs(context);
            let found = arcs.binary_search_by_key(&(token as u32), |arc| arc.token);
            found.ok().map(|index| arcs[index].to)
        };
        let longer = self.chain(context).find_map(find);
        longer.or(self.unigrams.get(token).map(|&(_, to)| to)).unwrap_or(START)
    }

    pub(super) fn end(&self, context: u32) -> f32 {
        let ends = self
            .chain(context)
            .map(|(context, backoff)| (self.contexts[context as usize].end, backoff));
        let mut known = ends.filter(|&(end, _)| end > NEVER);
        known.next().map_or(NEVER, |(end, backoff)| end + backoff)
    }
}

/// A symbol of an n-gram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Symbol {
    Token(u32),
    Begin,
    End,
    Unknown,
}

/// Collects n-grams, the shortest ones first.
#[derive(Debug)]
pub(super) struct Builder {
    order: usize,
    contexts: Vec<Context>,
    /// The arcs of contexts, by context and token.
    arcs: HashMap<(u32, u32), (u32, f32)>,
    unigrams: Vec<Option<(f32, u32)>>,
    unknown: f32,
    has_begin: bool,
}

impl Builder {
    /// Of n-grams of up to `order` of `tokens` tokens.
    pub(super) fn new(order: usize, tokens: usize) -> Self {
        Self {
            order,
            contexts: vec![Context::new(START, 0.0); 2],
            arcs: HashMap::new(),
            unigrams: vec![None; tokens],
            unknown: f32::NEG_INFINITY,
            has_begin: false,
        }
    }

    /// Adds an n-gram.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add(&mut self, symbols: &[Symbol], weight: f32, backoff: f32) -> Result<(), &'static str> {
        let Some((&last, before)) = symbols.split_last() else {
            return Err("it has no symbols");
        };
        // NeMo has no contexts with the unknown token, either.
        if symbols.len() > 1 && symbols.contains(&Symbol::Unknown) {
            return Ok(());
        }
        let from = match before {
            [] => START,
            _ => self
                .context(before)
                .ok_or("the file has no n-gram of its symbols without the last")?,
        };
        match last {
            Symbol::End => self.contexts[from as usize].end = weight,
            Symbol::Unknown => self.unknown = weight,
            Symbol::Begin if before.is_empty() => {
                self.has_begin = true;
                self.contexts[BOS as usize].backoff = backoff;
            }
            Symbol::Begin => return Err("the start of a sentence follows a symbol"),
            Symbol::Token(token) => {
                let shorter = match before {
                    [] => START,
                    _ => self
                        .context(&symbols[1..])
                        .ok_or("the file has no n-gram of its symbols without the first")?,
                };
                let to = match symbols.len() == self.order && !before.is_empty() {
                    true => shorter,
                    false => {
                        self.contexts.push(Context::new(shorter, backoff));
                        self.contexts.len() as u32 - 1
                    }
                };
                let known = match before {
                    [] => self.unigrams[token as usize].replace((weight, to)).is_some(),
                    _ => self.arcs.insert((from, token), (to, weight)).is_some(),
                };
                if known {
                    return Err("it was there before");
                }
            }
        }
        Ok(())
    }

    /// The context of `symbols`.
    fn context(&self, symbols: &[Symbol]) -> Option<u32> {
        let (first, rest) = symbols.split_first()?;
        let mut context = match *first {
            Symbol::Begin => BOS,
            Symbol::Token(token) => self.unigrams[token as usize]?.1,
            Symbol::End | Symbol::Unknown => return None,
        };
        for symbol in rest {
            let Symbol::Token(token) = *symbol else { return None };
            context = self.arcs.get(&(context, token))?.0;
        }
        Some(context)
    }

    /// The model.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn build(self) -> Result<NGrams, &'static str> {
        if !self.has_begin {
            return Err("it has no unigram <s>");
        }
        let missing = self.unigrams.iter().filter(|unigram| unigram.is_none()).count();
        // `normalize_unk`: tokens that the model does not know share the probability of the unknown one.
        let unknown = match missing > 1 {
            true => self.unknown - (missing as f32).ln(),
            false => self.unknown,
        };
        let unigrams = self.unigrams.into_iter();
        let unigrams = unigrams.map(|unigram| unigram.unwrap_or((unknown, START))).collect();
        let mut sorted: Vec<_> = self.arcs.into_iter().collect();
        sorted.sort_unstable_by_key(|&(from_and_token, _)| from_and_token);
        let mut contexts = self.contexts;
        let mut arcs: Vec<Arc> = Vec::with_capacity(sorted.len());
        let mut next = 0;
        for ((from, token), (to, weight)) in sorted {
            while next <= from as usize {
                contexts[next].first_arc = arcs.len();
                next += 1;
            }
            arcs.push(Arc { token, to, weight });
        }
        for context in &mut contexts[next..] {
            context.first_arc = arcs.len();
        }
        Ok(NGrams {
            order: self.order,
            contexts,
            arcs,
            unigrams,
        })
    }
}
