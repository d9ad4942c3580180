// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use super::LanguageModel;

/// Tokens of the models: those of most files in the corpus.
const TOKENS: usize = 14;
/// Tokens that are scored.
const STEPS: usize = 64;

/// Parses `bytes` as an ARPA file. If that succeeds, every sequence of tokens has scores.
pub fn language_model(bytes: &[u8]) {
    let Ok(model) = LanguageModel::parse(bytes, TOKENS) else {
        return;
    };
    assert!(model.order() > 0 && model.tokens() == TOKENS);
    let (mut context, mut scores) = (model.start(), [f32::NAN; TOKENS]);
    for step in 0..STEPS {
        model.scores(context, &mut scores);
        let end = model.end(context);
        assert!(
            !end.is_nan() && !scores.iter().any(|score| score.is_nan()),
            "{scores:?}"
        );
        // The best token, so that contexts are long, and now and then another one, which may be no token at all.
        let best = (0..TOKENS).fold(0, |best, token| if scores[token] > scores[best] { token } else { best });
        context = model.next(context, if step % 5 == 4 { step % (TOKENS + 1) } else { best });
    }
}
