//! Text for people.

use std::borrow::Cow;

use indicatif::HumanCount;
use serde_json::Value;
use shared_process::is_unseen;

/// `1 quote`, `1,000 quotes`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(count))
}

/// What a peer sent, made harmless for a terminal: what cannot be seen is shown
/// by its number.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
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
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match c {
            c if is_unseen(c) => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(printable("a\u{202e}b\u{200b}\n"), r"a\u{202e}b\u{200b}\n");
    }
}
