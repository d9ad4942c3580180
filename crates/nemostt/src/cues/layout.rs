// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lines: how many pieces fit, and where lines end.

use std::ops::Range;

use super::{
    breaks::{self, WITHIN_NAME},
    piece::Piece,
};

/// Weight of uneven lines, compared with costs of [breaks]: two lines of a quarter and three quarters of the width cost
/// as much as a break after a clause.
const UNEVEN: f64 = 16.0;

/// Pieces that one line should hold: a word, or a whole name or number if it fits in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) pieces: Range<usize>,
    pub(super) width: usize,
}

/// Columns of `pieces` in one line.
pub(super) fn width(pieces: &[Piece]) -> usize {
    let spaces: usize = pieces.iter().skip(1).map(Piece::space).sum();
    pieces.iter().map(|piece| piece.width).sum::<usize>() + spaces
}

/// The text of `pieces` in one line.
pub(super) fn text(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        if !text.is_empty() && !piece.continues {
            text.push(' ');
        }
        text.push_str(&piece.text);
    }
    text
}

/// Costs of the breaks before each of `pieces`; of the first one, 0.
pub(super) fn costs(pieces: &[Piece]) -> Vec<u32> {
    let words: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
    let cost = |at| breaks::cost(&words, at, pieces[at].continues);
    (0..pieces.len()).map(|at| if at == 0 { 0 } else { cost(at) }).collect()
}

/// The units of `pieces`, given the [costs] of breaks between them.
pub(super) fn units(pieces: &[Piece], costs: &[u32], columns: usize) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut start = 0;
    while start < pieces.len() {
        let mut end = start + 1;
        while costs.get(end).is_some_and(|&cost| cost >= WITHIN_NAME) && end < pieces.len() {
            end += 1;
        }
        let whole = width(&pieces[start..end]);
        match whole <= columns {
            true => units.push(Unit {
                pieces: start..end,
                width: whole,
            }),
            false => units.extend((start..end).map(|at| Unit {
                pieces: at..at + 1,
                width: pieces[at].width,
            })),
        }
        start = end;
    }
    units
}

/// Number of the first of `units` that does not fit in `lines` lines.
pub(super) fn fitting(units: &[Unit], pieces: &[Piece], columns: usize, lines: usize) -> usize {
    let (mut line, mut used) = (1, 0);
    for (index, unit) in units.iter().enumerate() {
        let with_space = used + pieces[unit.pieces.start].space() + unit.width;
        if index == 0 {
            used = unit.width;
        } else if with_space <= columns {
            used = with_space;
        } else if line < lines {
            line += 1;
            used = unit.width;
        } else {
            return index;
        }
    }
    units.len()
}

/// Lines of `pieces`, which [fit](fitting) in `lines`: as few as possible, of even length, and with breaks at good places.
pub(super) fn balance(pieces: &[Piece], columns: usize, lines: usize) -> Vec<Range<usize>> {
    let costs = costs(pieces);
    let units = units(pieces, &costs, columns);
    let mut count = 1;
    while count < lines && fitting(&units, pieces, columns, count) < units.len() {
        count += 1;
    }
    let target = width(pieces) as f64 / count as f64;
    let line = |from: usize, to: usize| units[from].pieces.start..units[to - 1].pieces.end;
    // best[n][i]: cost of the first i units in n lines, and the unit with which the last one begins.
    let mut best = vec![vec![None::<(f64, usize)>; units.len() + 1]; count + 1];
    best[0][0] = Some((0.0, 0));
    for n in 1..=count {
        for to in 1..=units.len() {
            let mut length = 0;
            for from in (0..to).rev() {
                let space = if from + 1 < to {
                    pieces[units[from + 1].pieces.start].space()
                } else {
                    0
                };
                length += units[from].width + space;
                if length > columns {
                    break;
                }
                let Some((before, _)) = best[n - 1][from] else { continue };
                let uneven = (length as f64 - target) / columns as f64;
                let cost = before + UNEVEN * uneven * uneven + f64::from(costs[units[from].pieces.start]);
                if best[n][to].is_none_or(|(known, _)| cost < known) {
                    best[n][to] = Some((cost, from));
                }
            }
        }
    }
    let mut ranges = Vec::with_capacity(count);
    let mut to = units.len();
    for n in (1..=count).rev() {
        let Some((_, from)) = best[n][to] else { break };
        ranges.push(line(from, to));
        to = from;
    }
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::{super::piece::pieces, *};

    fn lines(text: &str, columns: usize, lines: usize) -> Vec<String> {
        let pieces: Vec<Piece> = text.split(' ').flat_map(|word| pieces(word, 0, 0, columns)).collect();
        let ranges = balance(&pieces, columns, lines);
        ranges.into_iter().map(|range| super::text(&pieces[range])).collect()
    }

    #[test]
    fn text_that_fits_is_one_line() {
        assert_eq!(lines("a bird in the hand", 42, 2), ["a bird in the hand"]);
    }

    #[test]
    fn lines_are_even_and_break_before_conjunctions() {
        assert_eq!(
            lines("the train had already left the station when we arrived there", 42, 2),
            ["the train had already left the station", "when we arrived there"]
        );
        assert_eq!(
            lines("red green blue brown black white amber ivory", 32, 2),
            ["red green blue brown", "black white amber ivory"]
        );
    }

    #[test]
    fn lines_break_after_a_clause() {
        assert_eq!(
            lines("If it rains, we shall stay at home and read", 32, 2),
            ["If it rains,", "we shall stay at home and read"]
        );
    }

    #[test]
    fn names_stay_in_one_line() {
        assert_eq!(
            lines("yesterday they saw Ludwig van Beethoven there", 28, 2),
            ["yesterday they saw", "Ludwig van Beethoven there"]
        );
    }

    #[test]
    fn a_name_longer_than_a_line_is_broken() {
        assert_eq!(lines("Wolfgang Amadeus Mozart", 16, 2), ["Wolfgang", "Amadeus Mozart"]);
    }

    #[test]
    fn parts_of_a_long_word_follow_each_other() {
        let word = "a".repeat(20);
        assert_eq!(
            lines(&format!("x {word} y"), 8, 5),
            ["x", "aaaaaaaa", "aaaaaaaa", "aaaa y"]
        );
    }
}
