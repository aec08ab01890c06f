//! What was changed between two texts, as an editor would do it.

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

/// Lines that changed are compared by their characters when there are not more
/// bytes to compare than these; beyond, by their words.
const CHARACTERS: usize = 8 << 10;
/// After this long a rougher answer will do.
const PATIENCE: Duration = Duration::from_millis(200);

/// The most that a change deletes, and the most that it inserts, in bytes.
pub(crate) const PIECE: usize = 32 << 10;

/// One change of a text that has those before it already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Splice<'a> {
    /// In bytes of UTF-8, as all of them.
    pub(crate) at: usize,
    pub(crate) delete: usize,
    pub(crate) insert: &'a str,
}

impl Splice<'_> {
    /// In bytes that it deletes or inserts.
    pub(crate) fn cost(&self) -> usize {
        self.delete + self.insert.len()
    }
}

/// The changes that make `old` into `new`, from the front to the back.
pub(crate) fn between<'a>(old: &str, new: &'a str) -> Vec<Splice<'a>> {
    let deadline = Some(Instant::now() + PATIENCE);
    let (old_lines, new_lines) = (lines(old), lines(new));
    let mut splices = Splices { at: 0, made: Vec::new() };
    for lines in capture_diff_slices_deadline(Algorithm::Myers, &old_lines, &new_lines, deadline) {
        let (old, new) =
            (joined(old, &old_lines[lines.old_range()]), joined(new, &new_lines[lines.new_range()]));
        match lines {
            DiffOp::Equal { .. } => splices.at += old.len(),
            DiffOp::Replace { .. } => splices.within_lines(old, new, deadline),
            _ => splices.add(old, new),
        }
    }
    splices.made
}

struct Splices<'a> {
    /// In the text as it is after what was made.
    at: usize,
    made: Vec<Splice<'a>>,
}

impl<'a> Splices<'a> {
    /// In pieces, from the front to the back.
    fn add(&mut self, mut delete: &str, mut insert: &'a str) {
        while !(delete.is_empty() && insert.is_empty()) {
            let (deleted, rest) = delete.split_at(delete.floor_char_boundary(PIECE));
            let (inserted, more) = insert.split_at(insert.floor_char_boundary(PIECE));
            self.made.push(Splice { at: self.at, delete: deleted.len(), insert: inserted });
            self.at += inserted.len();
            (delete, insert) = (rest, more);
        }
    }

    fn within_lines(&mut self, old: &str, new: &'a str, deadline: Option<Instant>) {
        let same = common(old.chars(), new.chars());
        let ((_, old), (head, new)) = (old.split_at(same), new.split_at(same));
        self.at += head.len();
        let same = common(old.chars().rev(), new.chars().rev());
        let (old, new) = (&old[..old.len() - same], &new[..new.len() - same]);
        let (old_parts, new_parts) = match old.len() + new.len() {
            0..=CHARACTERS => (characters(old), characters(new)),
            _ => (words(old), words(new)),
        };
        for parts in capture_diff_slices_deadline(Algorithm::Myers, &old_parts, &new_parts, deadline) {
            let old = joined(old, &old_parts[parts.old_range()]);
            let new = joined(new, &new_parts[parts.new_range()]);
            match parts {
                DiffOp::Equal { .. } => self.at += old.len(),
                _ => self.add(old, new),
            }
        }
        self.at += same;
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(char::is_whitespace).collect()
}

fn characters(text: &str) -> Vec<&str> {
    text.split_inclusive(|_| true).collect()
}

/// How many bytes the characters have that both begin with.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).map(|(one, _)| one.len_utf8()).sum()
}

/// The part of `whole` that neighbouring parts of it make up.
fn joined<'a>(whole: &'a str, parts: &[&'a str]) -> &'a str {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return "" };
    let start = first.as_ptr().addr() - whole.as_ptr().addr();
    let end = last.as_ptr().addr() + last.len() - whole.as_ptr().addr();
    whole.get(start..end).unwrap_or_default()
}
