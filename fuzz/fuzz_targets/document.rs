//! Changes of a text from a peer who wants to do harm, and documents that were
//! saved.

#![no_main]

#[path = "automerge_panics.rs"]
mod automerge_panics;

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use shared_document::Document;

const SAVED: u8 = 0;
const CHANGE: u8 = 1;

thread_local! {
    /// Two texts that were put in apart. What was made of a text alone is the same
    /// in every run, and so are the changes that build on it.
    static DOCUMENT: LazyCell<Document> = LazyCell::new(|| {
        let mut document = Document::genesis().expect("a genesis");
        for text in ["one\n", "two é\n"] {
            document.import(text).expect("an import");
        }
        document
    });
}

/// A chunk of automerge around a body: with a checksum, without which nothing
/// else would be looked at.
fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut inside = vec![kind];
    let mut left = body.len();
    loop {
        let more = left > 0x7f;
        inside.push((left & 0x7f) as u8 | if more { 0x80 } else { 0 });
        left >>= 7;
        if !more {
            break;
        }
    }
    inside.extend(body);
    let checksum = &Sha256::digest(&inside)[..4];
    [&[0x85, 0x6f, 0x4a, 0x83], checksum, &inside].concat()
}

/// A document is what was saved of it, and what others are given of it.
fn check(document: &Document) {
    let text = document.text().expect("a text");
    assert_eq!(text.len(), document.len());
    let changes = document.changes_since(&[], usize::MAX).0;
    let changes: Vec<_> = changes.iter().map(|change| change.raw_bytes()).collect();
    let given =
        Document::genesis().expect("a genesis").with(&changes).expect("what was taken is taken again").0;
    let loaded = Document::load(&document.save()).expect("what was saved is loaded");
    for same in [given, loaded] {
        assert_eq!((same.text().expect("a text"), same.heads()), (text.clone(), document.heads()));
    }
}

fuzz_target!(init: automerge_panics::allow(), |bytes: &[u8]| {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    if *kind == SAVED {
        let _ = Document::load(&chunk(SAVED, rest));
        return;
    }
    // Changes, each with its length before it, the last one as long as what is left.
    let mut changes = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (change, after) = after.split_at(length);
        changes.push(chunk(CHANGE, change));
        rest = after;
    }
    DOCUMENT.with(|document| {
        let together = document.with(&changes).map(|(with, _)| with);
        if let Ok(with) = &together {
            check(with);
        }
        // One after the other they come to the same.
        let apart = changes.iter().try_fold(Document::clone(document), |document, change| Ok(document.with(&[change])?.0));
        let heads = |document: &Result<Document, shared_document::Refusal>| document.as_ref().ok().map(|one| (one.heads(), one.text().ok()));
        assert_eq!(heads(&together), heads(&apart));
    });
});
