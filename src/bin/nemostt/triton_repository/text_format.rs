// SPDX-License-Identifier: MIT OR Apache-2.0

//! Protobuf's text format (<https://protobuf.dev/reference/protobuf/textformat-spec/>), as far as a `config.pbtxt` needs it.
//! Triton's messages are not compiled in for one file.

use std::fmt::{Display, Write};

/// A message that is being written. Repeated fields are written once per value.
#[derive(Debug, Default)]
pub struct Message {
    text: String,
    depth: usize,
}

impl Message {
    /// A field with a number, a boolean, or a name of an enum.
    pub fn field(&mut self, name: &str, value: impl Display) {
        self.line(&format!("{name}: {value}"));
    }

    /// A field with a string.
    pub fn string(&mut self, name: &str, value: &str) {
        self.line(&format!("{name}: \"{}\"", escape(value)));
    }

    /// A repeated field of numbers.
    pub fn list(&mut self, name: &str, values: &[usize]) {
        let values: Vec<String> = values.iter().map(usize::to_string).collect();
        match values.is_empty() {
            true => self.line(&format!("{name}: [ ]")),
            false => self.line(&format!("{name}: [ {} ]", values.join(", "))),
        }
    }

    /// A field with a message, which `write` writes.
    pub fn message(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.line(&format!("{name} {{"));
        self.depth += 1;
        write(self);
        self.depth -= 1;
        self.line("}");
    }

    /// An entry of a map from strings to messages.
    pub fn entry(&mut self, map: &str, key: &str, write: impl FnOnce(&mut Self)) {
        self.message(map, |entry| {
            entry.string("key", key);
            entry.message("value", write);
        });
    }

    /// A comment of one or more lines.
    pub fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        let indent = 2 * self.depth;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }
}

/// The contents of a string literal. Bytes that are not printable ASCII become octal escapes, which are right whatever
/// follows them, because they always have three digits.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'\n' => escaped.push_str("\\n"),
            b'"' | b'\\' => escaped.extend(['\\', char::from(byte)]),
            b' '..=b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\{byte:03o}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(escape("plain-1.0_x / y"), "plain-1.0_x / y");
        assert_eq!(escape("a\"b\\c\n"), "a\\\"b\\\\c\\n");
        // A digit after an escape is not part of it.
        assert_eq!(escape("\u{7}1\t\u{7f}"), "\\0071\\011\\177");
        assert_eq!(escape("é"), "\\303\\251");
    }

    #[test]
    fn messages_are_nested() {
        let mut message = Message::default();
        message.comment("two\nlines");
        message.string("name", "x");
        message.message("input", |input| {
            input.field("data_type", "TYPE_FP32");
            input.list("dims", &[80, 25]);
            input.message("reshape", |reshape| reshape.list("shape", &[]));
        });
        message.entry("parameters", "key\"", |value| value.string("string_value", "1"));
        let expected = r#"# two
# lines
name: "x"
input {
  data_type: TYPE_FP32
  dims: [ 80, 25 ]
  reshape {
    shape: [ ]
  }
}
parameters {
  key: "key\""
  value {
    string_value: "1"
  }
}
"#;
        assert_eq!(message.into_text(), expected);
    }
}
