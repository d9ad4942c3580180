// SPDX-License-Identifier: MIT OR Apache-2.0

//! Regular expressions over a stream of words: what they match is replaced as soon as it is certain.
//!
//! A match may go on in words that have not been said yet. Whether it can is read from a lazy DFA of the same expressions: as
//! long as it is in a state from which a match can still be reached, words are held back.

use std::{fmt, sync::Arc};

use regex_automata::{
    Anchored, Input, MatchKind,
    hybrid::{LazyStateID, dfa},
    meta,
    nfa::thompson,
    util::{
        captures::{Captures, GroupInfo},
        pool::Pool,
        primitives::PatternID,
    },
};
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Look, Repetition};

use super::{
    MAX_HELD,
    edit::{Edit, Joined},
};
use crate::text::Word;

/// Expressions that are compiled together. A search that must follow all of them needs memory for each state and group of each,
/// so it grows with the square.
const GROUP: usize = 32;
/// Maximum bytes of a compiled group of expressions.
const MAX_COMPILED: usize = 1 << 20;
/// Maximum bytes that a search in a group, or in all of them, may need.
const MAX_SEARCH: [usize; 2] = [4 << 20, 256 << 20];
/// Most bytes of text that are held back: in scripts without spaces, a word may be long.
const MAX_HELD_BYTES: usize = 512;
/// Maximum bytes of the states of a lazy DFA, which are computed again if there are more.
const MAX_STATES: usize = 128 << 10;

/// Creates what a search in the lazy DFA needs.
type NewCache = Box<dyn Fn() -> dfa::Cache + Send + Sync>;

/// What takes the place of a match: the text matched, with the groups of the expression.
pub(super) trait Replace: fmt::Debug + Send + Sync {
    /// Adds what takes the place of match `captures` of expression `index` in `text` to `out`.
    fn replace(&self, index: usize, text: &str, captures: &Captures, out: &mut String);
}

/// Compiled expressions. Where several match at the same place, the first one counts.
#[derive(Debug)]
pub(super) struct Matcher {
    groups: Vec<Group>,
}

/// Some of the expressions.
struct Group {
    /// Number of the first one.
    first: usize,
    regex: meta::Regex,
    /// Accepts the same, but does not look around.
    prefixes: dfa::DFA,
    caches: Pool<dfa::Cache, NewCache>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

/// Expressions, and what takes the place of their matches.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) matcher: Arc<Matcher>,
    pub(super) replace: Arc<dyn Replace>,
}

/// Why an expression cannot be used.
pub(super) fn check(expression: &str) -> Result<Hir, String> {
    let hir = regex_syntax::parse(expression).map_err(|error| {
        let text = error.to_string();
        // The last line says what is wrong, those before show where.
        let reason = text.lines().last().unwrap_or_default();
        format!(
            "it is not a valid regular expression: {}",
            reason.trim_start_matches("error: ")
        )
    })?;
    let properties = hir.properties();
    if properties.minimum_len().is_none_or(|length| length == 0) {
        return Err("it matches nothing or the empty text; expected one that matches at least a character".into());
    }
    if properties.look_set().iter().any(is_anchor) {
        return Err("it has an anchor (^, $, \\A or \\z), but the text has no beginning and no end; use \\b for the boundary of a \
                    word"
            .into());
    }
    Ok(hir)
}

fn is_anchor(look: Look) -> bool {
    use Look::{End, EndCRLF, EndLF, Start, StartCRLF, StartLF};
    matches!(look, Start | End | StartLF | EndLF | StartCRLF | EndCRLF)
}

impl Matcher {
    /// Compiles expressions that were [checked](check).
    ///
    /// # Errors
    /// If they need too much memory.
    pub(super) fn new(expressions: &[Hir]) -> Result<Self, String> {
        let mut groups = Vec::new();
        let mut memory = 0;
        for (first, part) in (0..).step_by(GROUP).zip(expressions.chunks(GROUP)) {
            memory += Group::compile(first, part, &mut groups)?;
            if memory > MAX_SEARCH[1] {
                return Err("the expressions need too much memory; use fewer or simpler ones".into());
            }
        }
        Ok(Self { groups })
    }

    /// The groups in parentheses of expression `index`, and its number among those of `GroupInfo`.
    pub(super) fn group_info(&self, index: usize) -> Option<(GroupInfo, PatternID)> {
        let group = self.groups.iter().rev().find(|group| group.first <= index)?;
        let captures = group.regex.create_captures();
        Some((captures.group_info().clone(), PatternID::new(index - group.first).ok()?))
    }

    /// The first match at `from` or later: the number of its expression, and its groups.
    fn next(&self, text: &str, from: usize) -> Option<(usize, Captures)> {
        let found = self.groups.iter().filter_map(|group| {
            let found = group.regex.search(&Input::new(text).range(from..))?;
            Some((found.start(), group))
        });
        let (_, group) = found.min_by_key(|(start, _)| *start)?;
        let mut captures = group.regex.create_captures();
        group
            .regex
            .search_captures(&Input::new(text).range(from..), &mut captures);
        let index = group.first + captures.pattern()?.as_usize();
        Some((index, captures))
    }

    /// Whether a match that begins where `text` does may depend on what follows it and a space.
    fn may_go_on(&self, text: &str) -> bool {
        self.groups.iter().any(|group| group.may_go_on(text))
    }
}

impl Group {
    /// Compiles `expressions`, the first of which has number `first`, into a group, or into several smaller ones. Returns how many
    /// bytes a search in them may need.
    ///
    /// # Errors
    /// If one of them needs too much memory.
    fn compile(first: usize, expressions: &[Hir], groups: &mut Vec<Self>) -> Result<usize, String> {
        let too_large = |error: &dyn fmt::Display| match expressions.len() {
            1 => format!(
                "expression number {} needs too much memory ({error}); use a simpler one",
                first + 1
            ),
            _ => error.to_string(),
        };
        let result = Self::new(first, expressions, &too_large);
        match result {
            Ok((group, memory)) => {
                groups.push(group);
                Ok(memory)
            }
            Err(reason) if expressions.len() == 1 => Err(reason),
            Err(_) => {
                let (before, after) = expressions.split_at(expressions.len() / 2);
                let memory = Self::compile(first, before, groups)?;
                Ok(memory + Self::compile(first + before.len(), after, groups)?)
            }
        }
    }

    fn new(
        first: usize,
        expressions: &[Hir],
        too_large: &dyn Fn(&dyn fmt::Display) -> String,
    ) -> Result<(Self, usize), String> {
        let without_look: Vec<Hir> = expressions.iter().map(without_look).collect();
        let mut compiler = thompson::Compiler::new();
        let config = thompson::Config::new()
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(MAX_COMPILED));
        let nfa = compiler.configure(config).build_many_from_hir(&without_look);
        let nfa = nfa.map_err(|error| too_large(&error))?;
        let groups: usize = expressions
            .iter()
            .map(|hir| 1 + hir.properties().explicit_captures_len())
            .sum();
        // Start and end of each group, for each state.
        let memory = nfa.states().len() * 2 * groups * size_of::<usize>();
        if memory > MAX_SEARCH[0] {
            return Err(too_large(&format!("{memory} bytes")));
        }
        let config = meta::Config::new()
            .nfa_size_limit(Some(MAX_COMPILED))
            .hybrid_cache_capacity(MAX_STATES)
            .onepass(false)
            .dfa(false);
        let regex = meta::Builder::new().configure(config).build_many_from_hir(expressions);
        let config = dfa::Config::new()
            // A match that a boundary of a word forbids must not hide longer ones.
            .match_kind(MatchKind::All)
            .cache_capacity(MAX_STATES)
            .skip_cache_capacity_check(true);
        let prefixes = dfa::Builder::new().configure(config).build_from_nfa(nfa);
        let prefixes = prefixes.map_err(|error| too_large(&error))?;
        let template = prefixes.clone();
        let group = Self {
            first,
            regex: regex.map_err(|error| too_large(&error))?,
            prefixes,
            caches: Pool::new(Box::new(move || template.create_cache())),
        };
        Ok((group, memory))
    }

    /// Whether a match that begins where `text` does may depend on what follows it and a space.
    fn may_go_on(&self, text: &str) -> bool {
        let cache = &mut *self.caches.get();
        let start = Input::new(text).anchored(Anchored::Yes);
        let Ok(mut state) = self.prefixes.start_state_forward(cache, &start) else {
            return false;
        };
        for &byte in text.as_bytes().iter().chain(b" ") {
            match self.prefixes.next_state(cache, state, byte) {
                Ok(next) if !next.is_dead() && !next.is_quit() => state = next,
                _ => return false,
            }
        }
        // A match is reported a byte later, in a state from which nothing else may be reached.
        !state.is_match() || self.has_next(cache, state)
    }

    fn has_next(&self, cache: &mut dfa::Cache, state: LazyStateID) -> bool {
        let classes = self.prefixes.byte_classes();
        let mut bytes = classes.representatives(..).filter_map(|unit| unit.as_u8());
        bytes.any(|byte| {
            let next = self.prefixes.next_state(cache, state, byte);
            next.is_ok_and(|next| !next.is_dead() && !next.is_quit())
        })
    }
}

impl Rules {
    /// Finds the matches in `text`, from left to right. Returns them, and from where on more text may change them.
    fn find(&self, text: &str) -> (Vec<Edit>, Option<usize>) {
        let mut edits = Vec::new();
        let mut next = self.next(text, 0);
        let mut at = 0;
        while let Some(letter) = text[at..].chars().next() {
            if self.matcher.may_go_on(&text[at..]) {
                return (edits, Some(at));
            }
            match next.take_if(|edit| edit.range.start == at) {
                Some(edit) => {
                    at = edit.range.end;
                    edits.push(edit);
                    next = self.next(text, at);
                }
                None => at += letter.len_utf8(),
            }
        }
        // A match may begin with the space that follows.
        let open = self.matcher.may_go_on("").then_some(at);
        (edits, open)
    }

    /// As [`find`](Self::find), in a text that has ended.
    fn find_all(&self, text: &str) -> Vec<Edit> {
        let mut at = 0;
        let matches = std::iter::from_fn(|| {
            let edit = self.next(text, at)?;
            at = edit.range.end;
            Some(edit)
        });
        matches.collect()
    }

    /// The first match at `from` or later.
    fn next(&self, text: &str, from: usize) -> Option<Edit> {
        let (index, captures) = self.matcher.next(text, from)?;
        let mut range = captures.get_match()?.range();
        let mut replacement = String::new();
        self.replace.replace(index, text, &captures, &mut replacement);
        if replacement.trim().is_empty() {
            // The punctuation of what is removed goes, too.
            let rest = text[range.end..].trim_start_matches(|c: char| !c.is_alphanumeric() && !c.is_whitespace());
            if !rest.starts_with(char::is_alphanumeric) {
                range.end = text.len() - rest.len();
            }
        }
        Some(Edit {
            range,
            text: replacement,
        })
    }
}

/// `hir` without boundaries of words, which depend on more than the text so far. It matches what `hir` does, and more.
fn without_look(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(Class::Unicode(_) | Class::Bytes(_)) => hir.clone(),
        HirKind::Look(_) => Hir::empty(),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(without_look(&repetition.sub)),
            ..repetition.clone()
        }),
        HirKind::Capture(Capture { sub, .. }) => without_look(sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_look).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(without_look).collect()),
    }
}

/// Applies [`Rules`] to words.
#[derive(Debug, Clone)]
pub(super) struct RuleStep {
    rules: Rules,
    held: Vec<Word>,
}

impl RuleStep {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            held: Vec::new(),
        }
    }

    pub(super) fn held(&self) -> &[Word] {
        &self.held
    }

    pub(super) fn push(&mut self, word: Word, out: &mut Vec<Word>) {
        self.held.push(word);
        let joined = Joined::new(&self.held);
        if self.held.len() >= MAX_HELD || joined.text.len() > MAX_HELD_BYTES {
            self.flush(out);
            return;
        }
        let (mut edits, open) = self.rules.find(&joined.text);
        let mut keep = open.map_or(self.held.len(), |at| joined.word_at(at));
        // What has changed a part of a word that is held has to be found again with the rest of it.
        while let Some(edit) = edits.pop_if(|edit| joined.words_of(edit).end > keep) {
            keep = keep.min(joined.words_of(&edit).start);
        }
        let held = self.held.split_off(keep);
        let words = std::mem::replace(&mut self.held, held);
        joined.apply(&edits, words, out);
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Word>) {
        let words = std::mem::take(&mut self.held);
        let joined = Joined::new(&words);
        let edits = self.rules.find_all(&joined.text);
        joined.apply(&edits, words, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Writes the number of the expression, in angle brackets.
    #[derive(Debug)]
    struct Number;

    impl Replace for Number {
        fn replace(&self, index: usize, _: &str, _: &Captures, out: &mut String) {
            out.push_str(&format!("<{index}>"));
        }
    }

    fn word(text: &str) -> Word {
        Word {
            text: text.into(),
            start: 0,
            end: 1000,
            confidence: 1.0,
            spoken: Vec::new(),
        }
    }

    const EXPRESSIONS: [&str; 10] = [
        r"\bnew\b",
        r"\bnewer york\b",
        r"\b(new|newer york)\b",
        "damn",
        "damned fool",
        "a b",
        "b c d",
        r"\bd\b",
        "(a |b )+c",
        "new york (a|b)",
    ];
    const WORDS: [&str; 9] = ["new", "newer", "york", "damned", "fool", "a", "b", "c", "d"];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

        /// What is passed on word by word is what becomes of the whole text.
        #[test]
        fn words_passed_on_are_those_of_the_whole(
            expressions in vec(select(&EXPRESSIONS[..]), 1..5),
            texts in vec(select(&WORDS[..]), 1..12),
        ) {
            let hirs: Vec<Hir> = expressions.iter().map(|expression| check(expression).unwrap()).collect();
            let matcher = Arc::new(Matcher::new(&hirs).unwrap());
            let rules = Rules { matcher, replace: Arc::new(Number) };
            let mut step = RuleStep::new(rules.clone());
            let mut found = Vec::new();
            for text in &texts {
                step.push(word(text), &mut found);
            }
            step.flush(&mut found);
            let mut whole = RuleStep::new(rules);
            whole.held = texts.iter().map(|text| word(text)).collect();
            let mut expected = Vec::new();
            whole.flush(&mut expected);
            let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
            prop_assert_eq!(texts(&found), texts(&expected));
        }
    }

    #[test]
    fn first_of_many_expressions_counts() {
        let many: Vec<Hir> = (0..200)
            .map(|index| check(&format!(r"\bx{index}( y)?\b")).unwrap())
            .collect();
        let last = [check("x1.*").unwrap(), check("(x|y)+").unwrap()];
        let matcher = Matcher::new(&[&many[..], &last].concat()).unwrap();
        assert!(matcher.groups.len() >= 200 / GROUP);
        let found = |text| {
            matcher
                .next(text, 0)
                .map(|(index, captures)| (index, captures.get_match().unwrap().range()))
        };
        assert_eq!(found("a x150 y"), Some((150, 2..8)));
        assert_eq!(found("x1z"), Some((200, 0..3)));
        assert_eq!(found("x1z é"), Some((200, 0..6)));
        assert_eq!(found("y"), Some((201, 0..1)));
        assert_eq!(found("z"), None);
        let (groups, pattern) = matcher.group_info(150).unwrap();
        assert_eq!(groups.group_len(pattern), 2);
    }

    #[test]
    fn memory_of_searches_is_limited() {
        let many: Vec<Hir> = (0..10_000)
            .map(|index| check(&format!(".*foo{index}")).unwrap())
            .collect();
        let matcher = Matcher::new(&many).unwrap();
        assert_eq!(matcher.next("a foo12 é", 0).map(|(index, _)| index), Some(1));
        assert!(
            Matcher::new(&[check(r"(\w{100}){100}").unwrap()])
                .unwrap_err()
                .contains("number 1 needs too much memory")
        );
        let groups = "(a)".repeat(2000) + r"\w{20}";
        assert!(Matcher::new(&[check(&groups).unwrap()]).is_err());
    }

    #[test]
    fn long_words_are_not_held() {
        let matcher = Arc::new(Matcher::new(&[check(r"\w+ x").unwrap()]).unwrap());
        let mut step = RuleStep::new(Rules {
            matcher,
            replace: Arc::new(Number),
        });
        let mut out = Vec::new();
        step.push(word("short"), &mut out);
        assert!(out.is_empty());
        step.push(word(&"\u{8a9e}".repeat(200)), &mut out);
        assert_eq!(out.len(), 2);
    }
}
