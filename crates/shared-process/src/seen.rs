//! Which characters people can see.

/// Whether a character cannot be seen where it stands: a control character, one
/// that turns the direction of writing, or one that Unicode's property
/// `Default_Ignorable_Code_Point` has a screen leave out. A name or a text that has
/// one can look like another.
///
/// Those that [join or vary](can_be_seen) other characters are part of writing, and
/// so not among them.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || is_ignorable(c) && !is_joiner(c) && !is_variation(c)
}

/// Whether people can tell a name from others: it has no [`is_unseen`] and no blank
/// in the shape of a character, and what joins or varies characters has some to do
/// that with.
pub fn can_be_seen(name: &str) -> bool {
    let is_seen = |c: char| !is_unseen(c) && !is_joiner(c) && !is_variation(c) && !is_blank(c);
    let mut last = ' ';
    for c in name.chars() {
        let fits = match c {
            c if is_joiner(c) => is_seen(last) || is_variation(last),
            c if is_variation(c) => is_seen(last),
            c if is_joiner(last) => is_seen(c),
            c => is_seen(c) || c.is_whitespace() && !is_unseen(c),
        };
        if !fits {
            return false;
        }
        last = c;
    }
    !is_joiner(last)
}

/// White space, and the Braille pattern without dots.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{2800}'
}

/// ZWNJ and ZWJ: within Persian words, say, and between the people of a family.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Chooses a form of the character before it.
fn is_variation(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// `Default_Ignorable_Code_Point` of Unicode 17, in DerivedCoreProperties.txt. The
/// ranges have room for characters to come, so that new versions rarely change it.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_writing_systems_can_be_seen() {
        for name in [
            "ana",
            "Ana María 安娜",
            "a\u{3000}b",
            "👩\u{200d}🔬",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "\u{645}\u{6cc}\u{200c}\u{62e}",
            "葛\u{e0100}城",
            "1\u{fe0f}\u{20e3}",
            "⠓⠊",
        ] {
            assert!(can_be_seen(name), "{name:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_makes_no_name_and_no_other_one() {
        let alone = "\u{3164}\u{200c}\u{200d}\u{ad}\u{e0041}\u{2800}\u{115f}\u{1160}\u{180e}\u{34f}\u{ffa0}\
                     \u{200b}\u{2060}\u{202e}\u{2066}\u{feff}\u{fe0f}\u{e0100}\u{2028}\u{7f}\u{17b4}";
        for c in alone.chars() {
            for name in [format!("{c}"), format!("{c}a"), format!("a {c}"), format!("a{c}{c}b")] {
                assert!(!can_be_seen(&name), "{name:?}");
            }
        }
        for name in ["a\u{200d}", "a\u{200d} b", "a \u{200c}b", "a\u{fe0f}\u{fe0f}", "a\u{ad}b", "a\tb"] {
            assert!(!can_be_seen(name), "{name:?}");
        }
    }

    #[test]
    fn writing_is_not_escaped() {
        let writing = "❤\u{fe0f}\u{200d}🔥 \u{645}\u{200c}\u{62e} ⠓\u{2800}⠊";
        assert!(!writing.contains(is_unseen));
        assert!("\u{e0041}\u{202e}\u{1b}".chars().all(is_unseen));
    }
}
