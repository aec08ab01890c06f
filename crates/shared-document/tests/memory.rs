//! What it takes to make and to apply a large edit, in memory.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![cfg(target_os = "linux")]

use std::fs;

use shared_document::Document;

/// In bytes, how much more memory than before this process had while it did something.
fn most_memory<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let figure = |name| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    // The highest one so far is forgotten.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = figure("VmRSS:");
    let done = work();
    (done, figure("VmHWM:").saturating_sub(before))
}

/// automerge takes some 700 bytes for each operation that it makes or applies at once.
/// This edit has one for each byte.
#[test]
fn a_large_edit_takes_the_memory_of_a_part_of_it() {
    const MOST: u64 = 128 << 20;
    let text = "some text ".repeat(60_000);
    let (document, making) = most_memory(|| {
        let mut document = Document::genesis().unwrap();
        document.edit(&document.heads(), &text).unwrap();
        document
    });
    let changes = document.changes_since(&Document::genesis().unwrap().heads(), usize::MAX).0;
    let changes: Vec<_> = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
    assert!(making < MOST, "{making} bytes to make {} changes", changes.len());
    let (other, applying) = most_memory(|| Document::genesis().unwrap().with(&changes).unwrap().0);
    assert_eq!(other.text().unwrap(), text);
    assert!(applying < MOST, "{applying} bytes to apply {} changes", changes.len());
}
