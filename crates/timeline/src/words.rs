//! Text for people.
//!
//! What a peer sent never reaches a terminal unescaped.

use std::borrow::Cow;

use console::{Term, measure_text_width};
use indicatif::HumanCount;
use serde_json::Value;
use shared_process::is_unseen;

/// `1 quote`, `1,000 quotes`.
pub fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(count))
}

/// What a peer sent, made harmless for a terminal: what cannot be seen is shown
/// by its number.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unseen(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// A value as a line of JSON. What is unseen in a string would act on a terminal;
/// JSON itself escapes only a part of it.
pub fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match c {
            c if is_unseen(c) => {
                let units = c
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect::<String>();
                line.push_str(&units);
            }
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// How wide a terminal is; none for anything else.
pub fn columns(terminal: &Term) -> Option<usize> {
    terminal.size_checked().map(|(_, columns)| columns.into())
}

/// A paragraph on lines of at most `columns`, the first after `heading` and the
/// others below its end.
pub fn paragraph(heading: &str, text: &str, columns: usize) -> String {
    let indent = measure_text_width(heading);
    let mut lines = heading.to_owned();
    let mut column = indent;
    for word in text.split_whitespace() {
        let width = measure_text_width(word);
        if column > indent && column + 1 + width > columns {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
}

/// The words of a text on lines of at most `width` columns. The spaces between
/// them stay as they are; a word that is longer than a line is broken.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        if measure_text_width(&line) + measure_text_width(word.trim_end()) > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        for c in word.chars() {
            if measure_text_width(&line) + measure_text_width(c.encode_utf8(&mut [0; 4])) > width {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            // What separates two words does not begin a line.
            if c != ' ' || !line.is_empty() {
                line.push(c);
            }
        }
    }
    lines.push(line.trim_end().to_owned());
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_hang_below_their_heading() {
        let text = paragraph("do  ", &"word ".repeat(30), 100);
        assert!(text.lines().all(|line| line.len() <= 100 && line.get(4..8) == Some("word")), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(printable("a\u{202e}b\u{200b}\n"), r"a\u{202e}b\u{200b}\n");
    }

    #[test]
    fn labels_are_wrapped_between_words_and_long_words_anywhere() {
        assert_eq!(wrapped("a: 1  b: 2  c", 6), ["a: 1", "b: 2", "c"]);
        assert_eq!(wrapped("a  b", 9), ["a  b"]);
        assert_eq!(wrapped("安安安安 b", 4), ["安安", "安安", "b"]);
        assert_eq!(wrapped("", 4), [""; 0]);
    }
}
