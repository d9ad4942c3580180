// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads ARPA files: a header with the number of n-grams of each length, then one per line, `weight TAB symbols`, and
//! for all but the longest ones ` TAB back-off weight`; weights are logarithms to base 10.
//!
//! KenLM reads words, not tokens; so NeMo writes a token as the one character whose code is its id plus 100
//! (`DEFAULT_TOKEN_OFFSET`).

use std::io::{BufRead, Read};

use super::ngram::{Builder, NGrams, Symbol};

/// What NeMo adds to the id of a token.
const TOKEN_OFFSET: u32 = 100;
/// Longest n-grams. KenLM's default limit is 6.
const MAX_ORDER: usize = 12;
/// Most n-grams; each takes up to 100 bytes while they are read.
const MAX_NGRAMS: u64 = 50_000_000;
/// Largest magnitude of a weight. Files have -99 for the logarithm of 0.
const MAX_WEIGHT: f64 = 10_000.0;
/// How far rounding may push the logarithm of a probability of 1.
const MAX_LOG_PROBABILITY: f32 = 1e-3;
/// Longest line in bytes. One with 12 symbols of 4 bytes has about 100.
const MAX_LINE: u64 = 4096;

/// What editors on Windows write before the text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How often it is checked whether reading was cancelled.
const LINES_BETWEEN_CHECKS: u64 = 4096;

/// Lines with their numbers.
struct Lines<R, C> {
    text: R,
    line: String,
    number: u64,
    is_cancelled: C,
}

impl<R: BufRead, C: Fn() -> bool> Lines<R, C> {
    /// The next line without its end; `None` at the end of the file. Fails if reading was cancelled: also empty lines, of which
    /// there may be any number, are read here.
    fn next(&mut self) -> Result<Option<&str>, String> {
        if self.number.is_multiple_of(LINES_BETWEEN_CHECKS) && (self.is_cancelled)() {
            return Err("cancelled".into());
        }
        self.line.clear();
        self.number += 1;
        let read = self.text.by_ref().take(MAX_LINE).read_line(&mut self.line);
        match read {
            Ok(0) => Ok(None),
            Ok(count) if count as u64 == MAX_LINE && !self.line.ends_with('\n') => {
                Err(self.wrong(&format!("it has more than {MAX_LINE} bytes")))
            }
            Ok(_) => {
                let line = self.line.strip_suffix('\n').unwrap_or(&self.line);
                Ok(Some(line.strip_suffix('\r').unwrap_or(line)))
            }
            Err(error) if self.number == 1 => Err(format!("{NOT_ARPA} ({error})")),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    fn wrong(&self, reason: &str) -> String {
        format!("line {}: {reason}", self.number)
    }
}

const NOT_ARPA: &str = "it is not an ARPA file, which begins with \\data\\. Give the text that lmplz writes, which NeMo's \
    train_kenlm.py keeps with save_nemo=True or do_lmplz's --arpa, instead of KenLM's binary, a .nemo archive or a compressed file";

/// Reads a model over `tokens` tokens.
///
/// # Errors
/// What is wrong, where, and what was expected; if it `is_cancelled`, anything.
pub(super) fn read(text: impl BufRead, tokens: usize, is_cancelled: impl Fn() -> bool) -> Result<NGrams, String> {
    let mut lines = Lines {
        text,
        line: String::new(),
        number: 0,
        is_cancelled,
    };
    let counts = header(&mut lines)?;
    let mut builder = Builder::new(counts.len(), tokens);
    let mut symbols = Vec::new();
    for (order, &count) in (1..).zip(&counts) {
        let mut found = 0;
        while found < count {
            let Some(line) = lines.next()? else {
                return Err(format!(
                    "it ends after {found} of {count} {order}-grams: it is incomplete"
                ));
            };
            if line.is_empty() || line.starts_with('\\') && !line.starts_with("\\end\\") {
                continue;
            }
            let added = ngram(line, tokens, &mut symbols).and_then(|(weight, backoff)| {
                if symbols.len() != order {
                    return Err(format!(
                        "it has {} symbols, expected {order}. The language model must be one of tokens, as NeMo's \
                         train_kenlm.py makes it, with one character for each; this looks like one of words",
                        symbols.len()
                    ));
                }
                Ok(builder.add(&symbols, weight, backoff)?)
            });
            added.map_err(|reason| lines.wrong(&reason))?;
            found += 1;
        }
    }
    Ok(builder.build()?)
}

/// Number of n-grams of each order, from 1.
fn header(lines: &mut Lines<impl BufRead, impl Fn() -> bool>) -> Result<Vec<u64>, String> {
    loop {
        let line = lines
            .next()?
            .map(|line| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim());
        match line {
            Some("\\data\\") => break,
            Some("") => {}
            _ => return Err(NOT_ARPA.into()),
        }
    }
    let mut counts: Vec<u64> = Vec::new();
    loop {
        let Some(line) = lines.next()? else {
            return Err("it ends in its header".into());
        };
        if line.trim().is_empty() {
            break;
        }
        let expected = counts.len() + 1;
        let parts = line.strip_prefix("ngram").and_then(|rest| rest.split_once('='));
        let parts = parts.map(|(order, count)| (order.trim().parse::<usize>(), count.trim().parse::<u64>()));
        let Some((Ok(order), Ok(count))) = parts else {
            return Err(lines.wrong(&format!("expected `ngram {expected}=` and a number")));
        };
        if order != expected {
            return Err(lines.wrong(&format!("it is of {order}-grams, expected {expected}-grams")));
        }
        if order > MAX_ORDER {
            return Err(lines.wrong(&format!(
                "the model has {order}-grams, expected at most {MAX_ORDER}-grams. Make one of a lower order (lmplz -o)"
            )));
        }
        counts.push(count);
    }
    let total = counts.iter().fold(0_u64, |sum, &count| sum.saturating_add(count));
    match total {
        0 => Err("it has no n-grams".into()),
        1..=MAX_NGRAMS => Ok(counts),
        _ => Err(format!(
            "it has {total} n-grams, expected at most {MAX_NGRAMS}. Prune it (lmplz --prune)"
        )),
    }
}

/// Weight and back-off weight of an n-gram, as natural logarithms; its symbols are written to `symbols`.
fn ngram(line: &str, tokens: usize, symbols: &mut Vec<Symbol>) -> Result<(f32, f32), String> {
    let mut fields = line.split('\t');
    let (weight, text, backoff) = (fields.next(), fields.next(), fields.next());
    let (Some(weight), Some(mut text), None) = (weight, text, fields.next()) else {
        return Err("expected a weight, a tab, symbols, and at most a tab and a back-off weight".into());
    };
    let number = |text: &str| {
        let number = text.trim().parse::<f64>().ok();
        let number = number.filter(|number| number.abs() <= MAX_WEIGHT);
        let natural = number.map(|number| (number * std::f64::consts::LN_10) as f32);
        natural.ok_or_else(|| format!("\"{text}\" is not a number from -{MAX_WEIGHT} to {MAX_WEIGHT}"))
    };
    // A back-off weight may be above 0: what is left for unknown n-grams is more than the shorter ones give them.
    let probability = |text: &str| match number(text)? {
        weight @ ..=MAX_LOG_PROBABILITY => Ok(weight),
        _ => Err(format!(
            "weight {text} is the logarithm of a probability above 1, expected 0 or less"
        )),
    };
    symbols.clear();
    while let Some(first) = text.chars().next() {
        let special = [
            ("<s>", Symbol::Begin),
            ("</s>", Symbol::End),
            ("<unk>", Symbol::Unknown),
        ];
        let special = special
            .iter()
            .find_map(|(name, symbol)| Some((text.strip_prefix(name)?, *symbol)));
        let (rest, symbol) = match special {
            Some(found) => found,
            None => match u32::from(first).checked_sub(TOKEN_OFFSET) {
                Some(token) if (token as usize) < tokens => (&text[first.len_utf8()..], Symbol::Token(token)),
                _ => {
                    return Err(format!(
                        "'{}' (U+{:04X}) is not one of the characters from U+{TOKEN_OFFSET:04X} that stand for the {tokens} tokens of this model. The \
                         language model must be one of its tokens, as NeMo's train_kenlm.py makes it",
                        first.escape_debug(),
                        u32::from(first)
                    ));
                }
            },
        };
        symbols.push(symbol);
        text = rest.strip_prefix(char::is_whitespace).unwrap_or(rest);
    }
    Ok((probability(weight)?, backoff.map_or(Ok(0.0), number)?))
}
