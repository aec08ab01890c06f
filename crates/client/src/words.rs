//! Text for people.

use std::borrow::Cow;

use indicatif::HumanCount;
use shared_proto::is_unseen;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(printable("a\u{202e}b\u{200b}\n"), r"a\u{202e}b\u{200b}\n");
    }
}
