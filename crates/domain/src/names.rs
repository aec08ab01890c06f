//! Names that users give to things and that other users get to see.

use shared_process::can_be_seen;

/// In characters.
const LONGEST: usize = 64;

/// Reads after the name of the field: "room must not be blank".
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("must not be blank")]
    Blank,
    #[error("has {0} characters; {LONGEST} are allowed")]
    TooLong(usize),
    #[error("has a control character or an invisible character: {0:?}")]
    Unseen(String),
}

pub(crate) fn check(name: &str) -> Result<(), BadName> {
    // The order matters: a long name is not repeated in the message.
    match name.chars().count() {
        _ if name.trim().is_empty() => Err(BadName::Blank),
        length if length > LONGEST => Err(BadName::TooLong(length)),
        _ if !can_be_seen(name) => Err(BadName::Unseen(name.to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_and_short() {
        assert_eq!(check("ana"), Ok(()));
        assert_eq!(check("Ana María 安娜"), Ok(()));
        assert_eq!(check("👩\u{200d}🔬"), Ok(()));
        assert_eq!(check("a\u{202e}b"), Err(BadName::Unseen("a\u{202e}b".into())));
        assert_eq!(check("\u{3164}"), Err(BadName::Unseen("\u{3164}".into())));
        assert_eq!(check(&"安".repeat(64)), Ok(()));
        assert_eq!(check(""), Err(BadName::Blank));
        assert_eq!(check(" \t"), Err(BadName::Blank));
        assert_eq!(check(&"x".repeat(65)), Err(BadName::TooLong(65)));
        assert_eq!(
            check("a\u{1b}[2J").unwrap_err().to_string(),
            r#"has a control character or an invisible character: "a\u{1b}[2J""#
        );
    }
}
