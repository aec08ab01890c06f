use automerge::{
    ExpandedChange, ScalarValue,
    legacy::{ElementId, Key, OpId, OpType},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

fn raw(changes: &[Change]) -> Vec<Vec<u8>> {
    changes.iter().map(|change| change.raw_bytes().to_vec()).collect()
}

/// A document with this text, made by one edit of the genesis.
fn written(text: &str) -> Document {
    let mut document = Document::genesis().unwrap();
    document.edit(&document.heads(), text).unwrap();
    document
}

/// The changes that a peer needs that has only the genesis.
fn history(document: &Document) -> Vec<Vec<u8>> {
    raw(&document.changes_since(&Document::genesis().unwrap().heads(), usize::MAX).0)
}

fn merged(one: &Document, other: &Document) -> Document {
    one.with(&raw(&other.changes_since(&one.heads(), usize::MAX).0)).unwrap().0
}

#[test]
fn a_large_edit_is_several_changes_that_take_little_at_a_time() {
    let mut lines: Vec<_> = (0..5_000).map(|n| format!("{n:06} some text of a line\n")).collect();
    let old = lines.concat();
    fastrand::Rng::with_seed(1).shuffle(&mut lines);
    let new = lines.concat();
    let mut document = written(&old);
    let heads = document.edit(&document.heads(), &new).unwrap();
    assert_eq!((document.heads(), document.text().unwrap()), (heads, new.clone()));
    let changes = document.changes_since(&Document::genesis().unwrap().heads(), usize::MAX).0;
    assert!(changes.len() > 2, "{}", changes.len());
    assert!(changes.iter().all(|change| change.len() <= AT_ONCE));
    let other = Document::genesis().unwrap().with(&raw(&changes)).unwrap().0;
    assert_eq!(other.text().unwrap(), new);
}

#[test]
fn a_change_that_takes_much_is_refused_unless_it_was_taken_before() {
    let genesis = Document::genesis().unwrap();
    let mut document = genesis.clone();
    let text = "x".repeat(AT_ONCE + 1);
    document.change(&genesis.heads(), &[Splice { at: 0, delete: 0, insert: &text }]).unwrap();
    let refused = genesis.with(&history(&document)).unwrap_err();
    assert_eq!(refused, Refusal::ChangeTooLong(AT_ONCE as u64 + 1));
    assert_eq!(genesis.with_known(&history(&document)).unwrap().0.len(), text.len());
}

#[test]
fn the_genesis_is_the_same_everywhere_and_for_ever() {
    let heads = Document::genesis().unwrap().heads();
    let shown: Vec<_> = heads.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["58b49ac86f476c3f2bbf9d7aa8e47468fbd85cc912494782ac8c441f175318e0"]);
}

#[test]
fn texts_that_began_apart_come_together_in_one() {
    let (ana, ben) = (written("ana\r\n"), written("ben"));
    let (one, other) = (merged(&ana, &ben), merged(&ben, &ana));
    assert_eq!((one.text().unwrap(), one.heads()), (other.text().unwrap(), other.heads()));
    let text = one.text().unwrap();
    assert!(text.contains("ana\r\n") && text.contains("ben"), "{text:?}");
}

#[test]
fn a_text_of_no_history_is_put_in_once_and_next_to_another() {
    let import = |document: &Document, text| {
        let mut document = document.clone();
        let heads = document.import(text).unwrap();
        assert_eq!(document.text_at(&heads).unwrap(), text);
        document
    };
    let genesis = Document::genesis().unwrap();
    let (ana, ben) = (import(&genesis, "same\n"), import(&genesis, "same\n"));
    assert_eq!(merged(&ana, &ben).text().unwrap(), "same\n");
    let mut both = import(&ana, "other\n");
    let text = both.text().unwrap();
    assert!(text == "same\nother\n" || text == "other\nsame\n", "{text:?}");
    both.edit(&both.heads(), "both\n").unwrap();
    assert_eq!(import(&both, "same\n").text().unwrap(), "both\n");
    let heads = [genesis.heads(), ana.heads()];
    assert_eq!(both.closest(heads.iter().map(Vec::as_slice), "same"), Some(heads[1].as_slice()));
}

#[test]
fn an_edit_of_the_past_stands_next_to_what_happened_since() {
    let mut document = written("one\ntwo\n");
    let before = document.heads();
    document.edit(&before, "one\ntwo\nthree\n").unwrap();
    let edited = document.edit(&before, "zero\none\ntwo\n").unwrap();
    assert_eq!(document.text().unwrap(), "zero\none\ntwo\nthree\n");
    assert_eq!(document.text_at(&edited).unwrap(), "zero\none\ntwo\n");
    assert_eq!(document.heads().len(), 2);
    assert_eq!(document.edit(&edited, "zero\none\ntwo\n").unwrap(), edited, "no change is no edit");
}

#[test]
fn what_was_saved_is_loaded_and_what_was_not_is_refused() {
    let document = written("text");
    let loaded = Document::load(&document.save()).unwrap();
    assert_eq!((loaded.text().unwrap(), loaded.heads()), ("text".to_owned(), document.heads()));
    // Operations continue at the same number.
    assert_eq!(loaded.max_op, document.max_op);
    assert!(Document::load(b"text").is_err());
    assert!(Document::load(&Automerge::new().save()).is_err());
}

/// Found by `just fuzz`: automerge panics on this.
#[test]
fn what_contradicts_itself_is_not_loaded() {
    const SAVED: &str = "\
        856f4a83b16fbf48008002031000666f75726d6f6465732f73796e63081044efa56591a0a4969b549815fdcd\
        859510e0e63aa4c8e1ed796cb104d8a074e553023e4a6e943afadcbf6f1b1cfd386f7345c7b35f7b2ed7f608\
        d6af24065ec7c4c69523714259e2a934dc1984a80275fd9defadb8c853457a4a35d366041f93e5d207010403\
        04130423024004430256020c010402041108130c150821062306340242045607570b8001027d0000017f0102\
        007dffffffffffffff1f010200030700010a0000010a01000203020001050100017e000202017e7c0204017f\
        0474657874000a7f000402060105017f7d0501010a7f040a017f0008167e26166f6e650a74776f20c3a90a0b\
        000102";
    let byte = |place| u8::from_str_radix(&SAVED[place..place + 2], 16).unwrap();
    let bytes: Vec<_> = (0..SAVED.len()).step_by(2).map(byte).collect();
    assert!(Document::load(&bytes).is_err());
}

#[test]
fn changes_come_in_parts_that_can_be_applied_in_order() {
    let mut document = Document::genesis().unwrap();
    let mut text = String::new();
    for n in 0..200 {
        text.insert_str(text.len() / 2 / 2 * 2, &format!("{n:02}"));
        document.edit(&document.heads(), &text).unwrap();
    }
    let mut other = Document::genesis().unwrap();
    let mut have = other.heads();
    let mut parts = 0;
    loop {
        let (changes, then) = document.changes_since(&have, 1_000);
        if changes.is_empty() {
            break;
        }
        let bytes: usize = changes.iter().map(|change| change.raw_bytes().len()).sum();
        assert!(bytes <= 1_000 || changes.len() == 1);
        other = other.with(&raw(&changes)).unwrap().0;
        have = then;
        parts += 1;
    }
    assert!(parts > 10);
    assert_eq!((other.text().unwrap(), have), (text, document.heads()));
}

#[test]
fn a_difference_is_where_the_editor_made_it() {
    let long = "word ".repeat(10_000);
    let edited = long.replacen("word word", "word, word", 1) + "end";
    let made = difference::between(&long, &edited);
    assert!(
        made.iter().map(|splice| splice.delete + splice.insert.len()).sum::<usize>() < 20_010,
        "{made:?}"
    );
    let lines: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    let edited = lines.replacen("line 7\n", "line VII\n", 1).replacen("line 900\n", "", 1);
    let made = difference::between(&lines, &edited);
    let cost: usize = made.iter().map(|splice| splice.delete + splice.insert.len()).sum();
    assert!(made.len() <= 4 && cost <= 16, "{made:?}");
}

#[test]
fn limits_are_kept_and_said() {
    let genesis = Document::genesis().unwrap();
    // Few characters, because they determine time and memory.
    let full = written(&"🦀".repeat(TEXT_BYTES / 4));
    let full = genesis.with(&history(&full)).unwrap().0;
    let more = history(&written("é"));
    assert_eq!(full.with(&more).unwrap_err(), Refusal::TextTooLong(TEXT_BYTES + 2));
    let long = format!("{}x", "🦀".repeat(TEXT_BYTES / 4));
    assert_eq!(genesis.with(&history(&written(&long))).unwrap_err(), Refusal::TextTooLong(TEXT_BYTES + 1));

    // Each from an editor that has seen none of the others.
    let apart: Vec<_> = (0..=HEADS).flat_map(|n| history(&written(&n.to_string()))).collect();
    assert_eq!(genesis.with(&apart).unwrap_err(), Refusal::TooManyHeads(HEADS + 1));
    let mut many = genesis.with(&apart[1..]).unwrap().0;
    // The next edit joins the heads.
    let heads = many.heads();
    many.edit(&heads, "one").unwrap();
    assert_eq!(genesis.with(&history(&many)).unwrap().0.text().unwrap(), "one");
}

#[test]
fn a_history_has_an_end() {
    let mut document = Document::genesis().unwrap();
    // The genesis is one of the changes.
    for n in 1..HISTORY_CHANGES {
        document.edit(&document.heads(), if n % 2 == 0 { "" } else { "x" }).unwrap();
    }
    let full = Document::genesis().unwrap().with(&history(&document)).unwrap().0;
    let before = document.heads();
    document.edit(&before, "more").unwrap();
    let refused = full.with(&raw(&document.changes_since(&before, usize::MAX).0)).unwrap_err();
    assert!(matches!(refused, Refusal::HistoryTooLong { changes, .. } if changes == HISTORY_CHANGES + 1));
}

#[test]
fn what_does_not_fit_the_document_is_refused() {
    let genesis = Document::genesis().unwrap();
    let mut document = written("one");
    document.edit(&document.heads(), "one two").unwrap();
    let changes = history(&document);
    assert_eq!(genesis.with(&changes[1..]).unwrap_err(), Refusal::OutOfOrder(0));
    let (with, new) = genesis.with(&changes).unwrap();
    assert_eq!(new.len(), 2);
    assert!(with.with(&changes).unwrap().1.is_empty(), "the same again changes nothing");

    // Two changes of one actor with the same number.
    let twin = |text| {
        let mut document = genesis.clone();
        document.doc.set_actor(ActorId::from(b"twin"));
        document.edit(&genesis.heads(), text).unwrap();
        history(&document)
    };
    let refused = genesis.with(&[twin("a"), twin("b")].concat()).unwrap_err();
    assert!(matches!(refused, Refusal::Unfit(_)), "{refused:?}");

    // The second change, remade differently.
    let one = genesis.with(&changes[..1]).unwrap().0;
    let made = |remake: fn(&mut ExpandedChange)| {
        let mut change = Change::try_from(changes[1].as_slice()).unwrap().decode();
        remake(&mut change);
        one.with(&[Change::from(change).raw_bytes()]).map(|_| ())
    };
    assert_eq!(made(|_| ()), Ok(()));
    let remakes: [fn(&mut ExpandedChange); 4] = [
        |ahead| ahead.start_op = ahead.start_op.saturating_add(1),
        |behind| behind.start_op = (behind.start_op.get() - 1).try_into().unwrap(),
        |forgetful| forgetful.deps = Document::genesis().unwrap().heads(),
        |skipping| skipping.seq += 1,
    ];
    for (n, remake) in remakes.into_iter().enumerate() {
        assert!(made(remake).is_err(), "{n}");
    }
}

/// A change made with automerge itself, which allows anything.
fn foreign(change: impl FnOnce(&mut automerge::transaction::Transaction<'_>, &ObjId)) -> Vec<u8> {
    let Document { mut doc, text, .. } = written("text");
    let before = doc.get_heads();
    let mut transaction = doc.transaction();
    change(&mut transaction, &text);
    transaction.commit().0.unwrap();
    doc.get_changes(&before)[0].raw_bytes().to_vec()
}

#[test]
fn nothing_but_the_text_can_be_touched() {
    let foreign: [(&str, Vec<u8>); 11] = [
        ("delete the text", foreign(|tx, _| tx.delete(ROOT, "text").unwrap())),
        ("replace it", foreign(|tx, _| tx.put(ROOT, "text", "x").unwrap())),
        ("another key", foreign(|tx, _| tx.put(ROOT, "other", 1).unwrap())),
        ("another object", foreign(|tx, _| drop(tx.put_object(ROOT, "o", ObjType::Map).unwrap()))),
        ("a number", foreign(|tx, text| tx.insert(text, 0, 1).unwrap())),
        ("nothing", foreign(|tx, text| tx.insert(text, 0, ()).unwrap())),
        ("an object in it", foreign(|tx, text| drop(tx.insert_object(text, 0, ObjType::Map).unwrap()))),
        ("an element's value", foreign(|tx, text| tx.put(text, 0, "x").unwrap())),
        ("a block", foreign(|tx, text| drop(tx.split_block(text, 0).unwrap()))),
        (
            "a mark",
            foreign(|tx, text| {
                let mark = automerge::marks::Mark::new("bold".to_owned(), true, 0, 2);
                tx.mark(text, mark, automerge::marks::ExpandMark::Both).unwrap();
            }),
        ),
        (
            "a counter in it",
            foreign(|tx, text| tx.insert(text, 0, automerge::ScalarValue::counter(1)).unwrap()),
        ),
    ];
    for (what, bytes) in foreign {
        assert!(change::check(&bytes).is_err(), "{what} is taken");
    }
    let mut compressed = history(&written(&"text ".repeat(1_000)));
    assert_eq!(change::check(&compressed[0]).map(|outline| outline.operations), Ok(5_000));
    let change = Change::try_from(compressed[0].as_slice()).unwrap().bytes().into_owned();
    assert!(change.len() < 1_000);
    compressed[0] = change;
    let genesis = Document::genesis().unwrap();
    assert!(matches!(genesis.with(&compressed), Err(Refusal::Malformed(0, _))));
    for bytes in [written("text").save(), Vec::new(), vec![0; 100]] {
        assert!(matches!(genesis.with(&[bytes]), Err(Refusal::Malformed(0, _))));
    }
}

/// Wraps a body in a chunk.
fn chunk(body: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    let mut left = body.len();
    loop {
        let more = left > 0x7f;
        length.push((left & 0x7f) as u8 | if more { 0x80 } else { 0 });
        left >>= 7;
        if !more {
            break;
        }
    }
    [&[0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1], length.as_slice(), body].concat()
}

#[test]
fn a_column_that_unfolds_to_more_than_anybody_has_is_not_unfolded() {
    let bytes = history(&written("aaaaaaaa")).remove(0);
    // A run of eight is written as 8; a number of ten bytes replaces it.
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
    let mut refused = 0;
    for place in (10..bytes.len()).filter(|place| bytes[*place] == 8) {
        let body = [&bytes[10..place], &many, &bytes[place + 1..]].concat();
        refused += u32::from(change::check(&chunk(&body)).is_err());
    }
    assert!(refused >= 5, "{refused}");
    assert!(change::check(&chunk(&bytes[10..])).is_ok());
}

/// Random edits, like those of a text editor, many of them in one place.
fn edit(document: &mut Document, times: usize, seed: u64) {
    const INSERTED: [&str; 9] = ["a", "b", "ab", " ", "\n", "\r\n", "é", "👩\u{200d}🔬", ""];
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..times {
        let text = document.text().unwrap();
        let places: Vec<_> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let from = random.usize(..places.len());
        let to = (from + random.usize(..4)).min(places.len() - 1);
        let inserted = INSERTED[random.usize(..INSERTED.len())].repeat(random.usize(1..4));
        let edited = [&text[..places[from]], &inserted, &text[places[to]..]].concat();
        document.edit(&document.heads(), &edited).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_thousand_edits_on_each_side_end_in_the_same_bytes(ana: u64, ben: u64) {
        let common = written("where both began\r\n");
        let (mut at_ana, mut at_ben) = (Document::load(&common.save()).unwrap(), common);
        edit(&mut at_ana, 1_000, ana);
        edit(&mut at_ben, 1_000, ben);
        let (one, other) = (merged(&at_ana, &at_ben), merged(&at_ben, &at_ana));
        prop_assert_eq!(one.text().unwrap(), other.text().unwrap());
        prop_assert_eq!(one.heads(), other.heads());
        prop_assert!(one.has_all(&at_ana.heads()) && one.has_all(&at_ben.heads()));
        prop_assert_eq!(one.text().unwrap().len(), one.len());
        // A peer that has nothing gets everything.
        let third = Document::genesis().unwrap().with(&history(&one)).unwrap().0;
        prop_assert_eq!(third.text().unwrap(), one.text().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_difference_makes_one_text_the_other(old in "[ab\n é👩]{0,60}", new in "[ab\n é👩]{0,60}") {
        let mut text = old.clone();
        for splice in difference::between(&old, &new) {
            text.replace_range(splice.at..splice.at + splice.delete, splice.insert);
        }
        prop_assert_eq!(text, new);
    }

    #[test]
    fn changes_that_were_tampered_with_end_in_an_answer(
        seed: u64, change in any::<Index>(), places in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut document = written("text");
        edit(&mut document, 6, seed);
        let mut changes = history(&document);
        let change = change.index(changes.len());
        for (place, with) in places {
            let length = changes[change].len();
            changes[change][place.index(length)] = with;
        }
        // There is an answer, and it needs no excessive memory or time.
        let genesis = Document::genesis().unwrap();
        if let Ok((with, _)) = genesis.with(&changes) {
            is_sound(&with)?;
        }
    }

    #[test]
    fn changes_that_were_made_up_leave_a_document_that_can_be_kept_and_given_away(seed: u64) {
        make_up(seed)?;
    }
}

fn make_up(seed: u64) -> Result<(), TestCaseError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut ana, mut ben) = (written("text"), Document::genesis().unwrap());
    for _ in 0..4 {
        edit(&mut ana, 1, random.u64(..));
        edit(&mut ben, 1, random.u64(..));
        if random.bool() {
            (ana, ben) = (merged(&ana, &ben), merged(&ben, &ana));
        }
    }
    let document = merged(&ana, &ben);
    edit(&mut ben, 1, random.u64(..));
    let Some(made_up) = made_up(&document, &ben, &mut random) else { return Ok(()) };
    if let Ok((with, _)) = document.with(&[made_up]) {
        is_sound(&with)?;
        // One editor continues from the result, another one does not have the change
        // yet.
        let [mut on, mut apart] = [&with, &ana].map(|one| Document::load(&one.save()).unwrap());
        edit(&mut on, 2, random.u64(..));
        edit(&mut apart, 2, random.u64(..));
        is_sound(&merged(&on, &apart))?;
    }
    Ok(())
}

/// A peer that receives changes in another order could not accept one that refers to
/// what its author did not have.
#[test]
fn a_change_names_nothing_but_what_its_author_knew() {
    let (ana, ben) = (written("ana"), written("ben"));
    let both = merged(&ana, &ben);
    let of_ana = ana.changes_since(&[], usize::MAX).0.remove(0);
    let element = OpId(of_ana.start_op().get(), of_ana.actor_id().clone());
    for text in ["en", "been"] {
        let mut edited = ben.clone();
        edited.edit(&ben.heads(), text).unwrap();
        let change = edited.changes_since(&ben.heads(), usize::MAX).0.remove(0);
        let naming = |deps: &[Head]| {
            let mut change = change.decode();
            change.deps = deps.to_vec();
            let operation = &mut change.operations[0];
            operation.key = Key::Seq(ElementId::Id(element.clone()));
            if !operation.insert {
                operation.pred = vec![element.clone()].into();
            }
            Change::from(ExpandedChange { hash: None, ..change }).raw_bytes().to_vec()
        };
        let first = of_ana.raw_bytes().to_vec();
        both.with(&[naming(&both.heads())]).unwrap();
        ben.with(&[first.clone(), naming(&both.heads())]).unwrap();
        for refused in [both.with(&[naming(&ben.heads())]), ben.with(&[first, naming(&ben.heads())])] {
            let Err(Refusal::Malformed(_, reason)) = refused else { panic!("{refused:?}") };
            assert!(reason.starts_with("it names what is not in the changes"), "{reason}");
        }
    }
}

/// automerge keeps only which element a deletion deletes.
#[test]
fn what_is_deleted_is_what_is_named() {
    let document = written("text");
    let first = document.changes_since(&[], usize::MAX).0.remove(0);
    let element = |n| OpId(first.start_op().get() + n, first.actor_id().clone());
    let mut edited = document.clone();
    edited.edit(&document.heads(), "tet").unwrap();
    let change = edited.changes_since(&document.heads(), usize::MAX).0.remove(0);
    let with = |key: OpId, before: Vec<OpId>| {
        let mut change = change.decode();
        change.operations[0].key = Key::Seq(ElementId::Id(key));
        change.operations[0].pred = before.into();
        document.with(&[Change::from(ExpandedChange { hash: None, ..change }).raw_bytes()]).map(|_| ())
    };
    assert_eq!(with(element(1), vec![element(1)]), Ok(()));
    let itself = OpId(change.start_op().get(), change.actor_id().clone());
    for (key, before) in [
        (element(1), vec![]),
        (element(1), vec![element(2)]),
        (element(1), vec![element(1), element(2)]),
        (itself.clone(), vec![itself]),
    ] {
        let refused = with(key, before);
        assert!(matches!(refused, Err(Refusal::Malformed(0, _))), "{refused:?}");
    }
}

/// A document equals what is loaded from its saved bytes, and what peers get of it.
fn is_sound(document: &Document) -> Result<(), TestCaseError> {
    let text = document.text().unwrap();
    prop_assert_eq!(text.len(), document.len());
    let given = Document::genesis().unwrap().with(&history(document));
    for same in [
        Document::load(&document.save()).map_err(|error| error.to_string()),
        given.map(|given| given.0).map_err(|error| error.to_string()),
    ] {
        let same = same.map_err(TestCaseError::fail)?;
        prop_assert_eq!((same.text().unwrap(), same.heads()), (text.clone(), document.heads()));
    }
    Ok(())
}

/// An author's last change, modified as an attacker might. `None` if automerge itself
/// cannot build such a change.
fn made_up(document: &Document, author: &Document, random: &mut fastrand::Rng) -> Option<Vec<u8>> {
    let history = document.changes_since(&[], usize::MAX).0;
    let mut change: ExpandedChange = author.changes_since(&[], usize::MAX).0.last()?.decode();
    let ids: Vec<_> = history
        .iter()
        .flat_map(|change| {
            (change.start_op().get()..=change.max_op()).map(|n| OpId(n, change.actor_id().clone()))
        })
        .chain([OpId(1, ActorId::from(&GENESIS_ACTOR)), OpId(999, change.actor_id.clone())])
        .collect();
    let any_id = |random: &mut fastrand::Rng| ids[random.usize(..ids.len())].clone();
    let other = &history[random.usize(..history.len())];
    if random.u8(..) < 60 {
        let seqs = history.iter().filter(|change| change.actor_id() == other.actor_id());
        (change.actor_id, change.seq) = (other.actor_id().clone(), seqs.count() as u64 + 1);
    }
    let place = random.usize(..change.operations.len());
    let operation = &mut change.operations[place];
    match random.u8(..9) {
        0 => {
            let number = change.start_op.get().saturating_sub(random.u64(..6)).max(1);
            change.start_op = number.try_into().unwrap();
        }
        1 => operation.key = Key::Seq(ElementId::Id(any_id(random))),
        2 => operation.pred = vec![any_id(random)].into(),
        3 => {
            let id = any_id(random);
            (operation.key, operation.pred) = (Key::Seq(ElementId::Id(id.clone())), vec![id].into());
        }
        4 => operation.pred = Vec::new().into(),
        5 if operation.insert => operation.action = OpType::Delete,
        5 => operation.action = OpType::Put(ScalarValue::Str("x".into())),
        6 => operation.insert = !operation.insert,
        7 => change.deps = vec![other.hash()],
        _ => {
            let again = operation.clone();
            change.operations.push(again);
        }
    }
    change.hash = None;
    let made = std::panic::catch_unwind(AssertUnwindSafe(|| Change::from(change)));
    made.ok().map(|change| change.raw_bytes().to_vec())
}
