// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caption cues: words become lines that viewers can read, when it is time for them.
//!
//! A [`CueBuilder`] takes words with their times and gives [`Cue`]s that keep [`CueRules`]. It reads no clock: the caller
//! [says](CueBuilder::advance) up to where all words are known. A cue waits [`delay`](CueRules::delay) for its words,
//! then it is complete, whatever is still to come; so it is never late.
//!
//! **Words.** A cue ends where speech pauses, or with a sentence that can be read before the next one begins; otherwise,
//! when it is full, at the best place: after a clause, before a conjunction or preposition, never within a name or
//! number. Lines are as few and as even as possible, and end at such places, too. A word longer than a line is split
//! between characters.
//!
//! **Times.** A cue begins with its first word and lasts until its last one ends, and until it can be read.
//!
//! **When rules conflict**, because speech is too fast or words come too late, this gives way, in this order:
//!
//! 1. the best place to end a cue;
//! 2. synchrony: a cue begins after its first word, by up to 1.5 s;
//! 3. the reading speed;
//! 4. synchrony, beyond 1.5 s: if words come late, or fill a screen in less than `min_duration`. With the defaults, that
//!    is 90 characters a second, several times the fastest speech.
//!
//! A name is broken only if it is longer than a line, or if the rest of it is not known when its cue must be complete.
//! What never gives way: no word is lost or repeated, cues do not overlap, lines and columns, durations, the gap, and
//! `delay`. Only before a [stop](CueBuilder::set_stop), after which nothing is shown, durations and gaps are shorter.

mod breaks;
mod builder;
mod cue;
mod layout;
mod piece;
#[cfg(test)]
mod property_tests;
mod rules;
mod screen;
mod stop;
#[cfg(test)]
mod tests;
mod timing;

pub use builder::CueBuilder;
pub use cue::{Added, Cue};
pub use rules::{CueMode, CueRules, RuleError};
