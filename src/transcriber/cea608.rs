// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cues in the JSON of `tttocea608` (gst-plugins-rs), which says where each text goes. Plain text cannot say where a line
//! ends in roll-up, nor that a word is added to a line in paint-on.

use nemostt::cues::{Added, Cue, CueMode};
use serde::Serialize;

/// Row at the bottom of the screen, counted from 0.
const LAST_ROW: usize = 14;
/// A preamble address code can only indent by multiples of this many columns (CEA-608, 7.4), and `tttocea608` deletes
/// what is right of there.
const INDENT: usize = 4;

/// The value that `tttocea608` parses.
#[derive(Debug, Serialize)]
struct Lines {
    lines: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear: Option<bool>,
}

#[derive(Debug, Default, Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    chunks: [Chunk; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    carriage_return: Option<bool>,
}

#[derive(Debug, Default, Serialize)]
struct Chunk {
    style: Style,
    underline: bool,
    text: String,
}

#[derive(Debug, Default, Serialize)]
enum Style {
    #[default]
    White,
}

impl Line {
    fn of(text: String) -> Self {
        let chunk = Chunk {
            text,
            ..Chunk::default()
        };
        Self {
            chunks: [chunk],
            ..Self::default()
        }
    }
}

/// `cue` on a screen of `rows` rows.
pub(super) fn json(cue: &Cue, mode: CueMode, rows: usize) -> Vec<u8> {
    let top = (LAST_ROW + 1).saturating_sub(rows);
    let line = |added: &Added| match mode {
        CueMode::PopOn => Line {
            row: Some(LAST_ROW + 1 + added.line - cue.lines.len().min(LAST_ROW + 1)),
            ..Line::of(added.text.clone())
        },
        CueMode::RollUp => Line {
            row: Some(LAST_ROW),
            carriage_return: Some(true),
            ..Line::of(added.text.clone())
        },
        CueMode::PaintOn => {
            let (column, text) = cue.painted(added, INDENT);
            Line {
                column: Some(column),
                row: Some(top + added.line),
                ..Line::of(text.to_owned())
            }
        }
    };
    let lines = Lines {
        lines: cue.added.iter().map(line).collect(),
        mode: Some(match (mode, rows) {
            (CueMode::PopOn, _) => "PopOn",
            (CueMode::PaintOn, _) => "PaintOn",
            (CueMode::RollUp, ..=2) => "RollUp2",
            (CueMode::RollUp, 3) => "RollUp3",
            (CueMode::RollUp, _) => "RollUp4",
        }),
        clear: (mode != CueMode::PopOn).then_some(cue.clears),
    };
    bytes(&lines)
}

/// Text that is not a cue, to be added to what is on the screen.
pub(super) fn plain(text: &str) -> Vec<u8> {
    bytes(&Lines {
        lines: vec![Line::of(text.to_owned())],
        mode: None,
        clear: None,
    })
}

fn bytes(lines: &Lines) -> Vec<u8> {
    // Serializing strings and numbers cannot fail.
    serde_json::to_vec(lines).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cue() -> Cue {
        Cue {
            start: 0,
            end: 1,
            lines: vec!["one two".into(), "three".into()],
            added: vec![
                Added {
                    line: 0,
                    column: 3,
                    text: " two".into(),
                },
                Added {
                    line: 1,
                    column: 0,
                    text: "three".into(),
                },
            ],
            clears: false,
            words: 2,
            delayed: 0,
        }
    }

    fn value(json: Vec<u8>) -> serde_json::Value {
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn a_line_rolls_up() {
        let mut cue = cue();
        cue.added.remove(0);
        assert_eq!(
            value(json(&cue, CueMode::RollUp, 2)),
            serde_json::json!({
                "mode": "RollUp2",
                "clear": false,
                "lines": [{
                    "row": 14,
                    "carriage_return": true,
                    "chunks": [{"style": "White", "underline": false, "text": "three"}],
                }],
            })
        );
        assert_eq!(value(json(&cue, CueMode::RollUp, 3))["mode"], "RollUp3");
        assert_eq!(value(json(&cue, CueMode::RollUp, 15))["mode"], "RollUp4");
    }

    #[test]
    fn words_are_painted_from_the_indent_before_them() {
        let json = value(json(&cue(), CueMode::PaintOn, 2));
        assert_eq!(json["mode"], "PaintOn");
        let place = |index: usize| {
            let line = &json["lines"][index];
            (&line["row"], &line["column"], &line["chunks"][0]["text"])
        };
        assert_eq!(place(0), (&13.into(), &0.into(), &"one two".into()));
        assert_eq!(place(1), (&14.into(), &0.into(), &"three".into()));
    }

    #[test]
    fn a_cue_pops_on_at_the_bottom() {
        let json = value(json(&cue(), CueMode::PopOn, 3));
        let rows = [&json["lines"][0]["row"], &json["lines"][1]["row"]];
        assert_eq!(rows, [13, 14]);
        assert_eq!(json.get("clear"), None);
    }

    #[test]
    fn other_text_is_a_line_without_a_place() {
        let chunk = serde_json::json!({"style": "White", "underline": false, "text": "word"});
        assert_eq!(
            value(plain("word")),
            serde_json::json!({"lines": [{"chunks": [chunk]}]})
        );
    }
}
