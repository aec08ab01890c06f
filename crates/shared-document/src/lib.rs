//! The text that `sync` keeps in sync, for both sides of the wire.
//!
//! A document is an automerge document whose root has one key, `text`, with one text
//! object. The change that creates it, the *genesis*, is the same everywhere: it has a
//! fixed actor and no time. So clients that began apart have the same object, and their
//! texts merge in it. Changes of a peer cannot touch anything else: see `change.rs`.

mod change;
mod difference;

use std::{
    collections::{HashMap, HashSet},
    mem,
    panic::{self, AssertUnwindSafe},
};

use automerge::{
    ActorId, Automerge, AutomergeError, ObjId, ObjType, PatchLog, ROOT, ReadDoc as _, TextEncoding,
    transaction::{CommitOptions, Transactable as _},
};
pub use automerge::{Change, ChangeHash as Head};

use self::{change::Outline, difference::Splice};

/// The longest text of a document, in bytes.
pub const TEXT_BYTES: usize = 1 << 20;
/// The longest change, in bytes. Replacing all of a text by another one fits.
pub const CHANGE_BYTES: usize = 3 << 20;
/// How many edits of single characters a document keeps. They determine memory and
/// time, whether or not they are still visible in the text.
pub const HISTORY_OPERATIONS: u64 = 4 << 20;
/// How many changes a document keeps. Tests use fewer, to save time.
pub const HISTORY_CHANGES: u64 = if cfg!(test) { 1 << 12 } else { 1 << 18 };
/// How many heads a document may have: changes that no other change builds on. Each
/// editor that was away adds one, and the next edit joins them all.
pub const HEADS: usize = 1024;

/// How many operations a change has at most, and how many are applied together.
/// automerge needs some 700 bytes for each while it works.
const AT_ONCE: usize = 128 << 10;

/// Sorts before every random actor; nothing depends on that.
const GENESIS_ACTOR: [u8; 16] = *b"\0fourmodes/sync\0";

/// A text and its whole history.
#[derive(Debug, Clone)]
pub struct Document {
    doc: Automerge,
    text: ObjId,
    genesis: Vec<Head>,
    /// The highest number of an operation. Operations are numbered consecutively.
    max_op: u64,
}

/// Why changes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a valid change of a text.
    #[error("change {0} is none of a document's text: {1}")]
    Malformed(usize, &'static str),
    /// It builds on changes that the document does not have.
    #[error("change {0} builds on changes that the document does not have; send those first")]
    OutOfOrder(usize),
    /// The number of its operations.
    #[error("a change has {0} operations; {AT_ONCE} are allowed; make several changes of it")]
    ChangeTooLong(u64),
    /// Another change of the same actor has the same number.
    #[error("the changes do not fit the document: {0}")]
    Unfit(String),
    /// The length of the resulting text in bytes.
    #[error("the text would have {0} bytes; {TEXT_BYTES} are allowed")]
    TextTooLong(usize),
    /// The size of the resulting history.
    #[error(
        "the document's history would have {operations} operations in {changes} changes; \
         {HISTORY_OPERATIONS} in {HISTORY_CHANGES} are allowed; go on in a new document"
    )]
    HistoryTooLong {
        /// Edits of single characters.
        operations: u64,
        /// Changes, of any size.
        changes: u64,
    },
    /// The number of resulting heads.
    #[error("the document would have {0} heads; {HEADS} are allowed; edit it with all that is in it")]
    TooManyHeads(usize),
}

/// The bytes are not one of our documents, or the heads are not part of its history.
#[derive(Debug, thiserror::Error)]
#[error("no such document: {0}")]
pub struct NoDocument(String);

impl From<AutomergeError> for NoDocument {
    fn from(error: AutomergeError) -> Self {
        Self(error.to_string())
    }
}

impl Document {
    /// The genesis: an empty text.
    ///
    /// # Errors
    ///
    /// None is known to occur.
    pub fn genesis() -> Result<Self, NoDocument> {
        let mut doc = Automerge::new_with_encoding(TextEncoding::Utf8CodeUnit);
        doc.set_actor(ActorId::from(&GENESIS_ACTOR));
        let mut transaction = doc.transaction();
        let text = transaction.put_object(ROOT, "text", ObjType::Text)?;
        transaction.commit_with(CommitOptions::default().with_time(0));
        doc.set_actor(ActorId::random());
        let genesis = doc.get_heads();
        Ok(Self { doc, text, genesis, max_op: 1 })
    }

    /// Reads what [`save`](Self::save) has written. New edits get a new author.
    ///
    /// # Errors
    ///
    /// When the bytes are something else.
    pub fn load(bytes: &[u8]) -> Result<Self, NoDocument> {
        let loaded = panic::catch_unwind(|| Self::loading(bytes));
        loaded.unwrap_or_else(|_| Err(NoDocument("it contradicts itself".to_owned())))
    }

    fn loading(bytes: &[u8]) -> Result<Self, NoDocument> {
        let options = automerge::LoadOptions::new().text_encoding(TextEncoding::Utf8CodeUnit);
        let mut doc = Automerge::load_with_options(bytes, options)?;
        let genesis = Self::genesis()?;
        if !genesis.heads().iter().all(|head| doc.get_change_meta_by_hash(head).is_some()) {
            return Err(NoDocument("it began in another way".to_owned()));
        }
        doc.set_actor(ActorId::random());
        let max_op = doc.get_changes_meta(&[]).iter().map(|change| change.max_op).max().unwrap_or_default();
        Ok(Self { doc, text: genesis.text, genesis: genesis.genesis, max_op })
    }

    /// The document with its history, as bytes.
    pub fn save(&self) -> Vec<u8> {
        self.doc.save()
    }

    /// The changes that no other change builds on. Documents with the same heads are
    /// identical.
    pub fn heads(&self) -> Vec<Head> {
        self.doc.get_heads()
    }

    /// Whether a change is part of the document.
    pub fn has(&self, change: &Head) -> bool {
        self.doc.get_change_meta_by_hash(change).is_some()
    }

    /// Whether all of `heads` are part of the document.
    pub fn has_all(&self, heads: &[Head]) -> bool {
        heads.iter().all(|head| self.has(head))
    }

    /// The present text.
    ///
    /// # Errors
    ///
    /// None is known to occur.
    pub fn text(&self) -> Result<String, NoDocument> {
        Ok(self.doc.text(&self.text)?)
    }

    /// The text at an earlier point of its history.
    ///
    /// # Errors
    ///
    /// When the document does not have these heads.
    pub fn text_at(&self, heads: &[Head]) -> Result<String, NoDocument> {
        Ok(self.doc.text_at(&self.text, heads)?)
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        self.doc.length(&self.text)
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the text at `at` into `new`, and keeps everything that happened since. A
    /// large edit makes several changes. Returns the heads at which the text is `new`.
    ///
    /// # Errors
    ///
    /// When the document does not have these heads.
    pub fn edit(&mut self, at: &[Head], new: &str) -> Result<Vec<Head>, NoDocument> {
        let old = self.text_at(at)?;
        let splices = difference::between(&old, new);
        let mut rest = &splices[..];
        let mut at = at.to_vec();
        while !rest.is_empty() {
            let (splices, more) = rest.split_at(fitting(rest, AT_ONCE, Splice::cost));
            at = self.change(&at, splices)?;
            rest = more;
        }
        Ok(at)
    }

    fn change(&mut self, at: &[Head], splices: &[Splice<'_>]) -> Result<Vec<Head>, NoDocument> {
        let now = self.doc.get_heads();
        let mut transaction = match at == now {
            true => self.doc.transaction(),
            false => self
                .doc
                .transaction_at(PatchLog::inactive(), at)
                .map_err(|error| NoDocument(error.to_string()))?,
        };
        for splice in splices {
            transaction.splice_text(&self.text, splice.at, splice.delete as isize, splice.insert)?;
        }
        let operations = transaction.pending_ops() as u64;
        let (change, _) = transaction.commit_with(CommitOptions::default().with_time(0));
        self.max_op += operations;
        Ok(change.into_iter().collect())
    }

    /// Adds a text without a known history to the document. The same text imported in
    /// two places appears once; a different text appears beside what is there. Returns
    /// the heads at which the text is this one.
    ///
    /// # Errors
    ///
    /// None is known to occur.
    pub fn import(&mut self, text: &str) -> Result<Vec<Head>, NoDocument> {
        let genesis = Self::genesis()?;
        let mut imported = genesis.clone();
        let mut actor = blake3::Hasher::new();
        actor.update(text.as_bytes());
        if text.len() > AT_ONCE {
            // Earlier versions made one change of it, with the actor hash without this.
            actor.update(b"in parts");
        }
        let actor = actor.finalize();
        imported.doc.set_actor(ActorId::from(&actor.as_bytes()[..16]));
        let heads = imported.edit(&genesis.heads(), text)?;
        self.max_op = self.max_op.max(imported.max_op);
        self.doc.apply_changes(imported.doc.get_changes(&genesis.heads()))?;
        Ok(heads)
    }

    /// The heads at which the text is closest to `text`.
    pub fn closest<'a>(&self, heads: impl IntoIterator<Item = &'a [Head]>, text: &str) -> Option<&'a [Head]> {
        heads.into_iter().min_by_key(|heads| match self.text_at(heads) {
            Ok(old) => {
                let splices = difference::between(&old, text);
                splices.iter().map(Splice::cost).sum()
            }
            Err(_) => usize::MAX,
        })
    }

    /// The changes that are not part of the history of `have`, in an order in which
    /// they can be applied. They have up to `most` bytes together, but there is always
    /// at least one. Also returns the heads after applying them to `have`.
    pub fn changes_since(&self, have: &[Head], most: usize) -> (Vec<Change>, Vec<Head>) {
        let mut have: Vec<_> = have.iter().copied().filter(|head| self.has(head)).collect();
        if have.is_empty() {
            // Every peer has the genesis.
            have = self.genesis.clone();
        }
        let mut changes = self.doc.get_changes(&have);
        changes.truncate(fitting(&changes, most, |change| change.raw_bytes().len()));
        changes.truncate(fitting(&changes, change::OPERATIONS as usize, Change::len));
        changes.iter().for_each(|change| advance(&mut have, change));
        (changes, have)
    }

    /// Returns this document with a peer's changes, and those of the changes that it
    /// did not have.
    ///
    /// Either all changes are accepted or none. They may be malicious: this bounds the
    /// size of what they expand to.
    ///
    /// # Errors
    ///
    /// When they are not changes of a text, or when the result would exceed a limit.
    pub fn with(&self, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        self.with_up_to(AT_ONCE as u64, changes)
    }

    /// Like [`with`](Self::with), for changes that were accepted earlier. Changes of
    /// earlier versions have up to as many operations as two whole texts.
    ///
    /// # Errors
    ///
    /// Those of [`with`](Self::with).
    pub fn with_known(&self, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        self.with_up_to(change::OPERATIONS, changes)
    }

    fn with_up_to(&self, longest: u64, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        // automerge panics on some inconsistent changes. This document stays unchanged,
        // and the partial result is dropped.
        let taken = panic::catch_unwind(AssertUnwindSafe(|| self.taking(longest, changes)));
        taken.unwrap_or_else(|_| Err(Refusal::Unfit("they contradict themselves".to_owned())))
    }

    fn taking(&self, longest: u64, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        let mut new = New { heads: self.heads(), ..New::default() };
        let mut max_op = self.max_op;
        let mut operations = 0;
        for (n, bytes) in changes.iter().enumerate() {
            let malformed = |reason| Refusal::Malformed(n, reason);
            let outline = change::check(bytes.as_ref()).map_err(malformed)?;
            if outline.operations > longest {
                return Err(Refusal::ChangeTooLong(outline.operations));
            }
            operations += outline.operations;
            if operations > change::OPERATIONS {
                return Err(malformed("together they have more operations than two whole texts"));
            }
            let change = Change::try_from(bytes.as_ref()).map_err(|_| malformed("it cannot be read"))?;
            let is_there = |head: &Head| new.get(head).is_some() || self.has(head);
            if is_there(&change.hash()) {
                continue;
            }
            if !change.deps().iter().all(is_there) {
                return Err(Refusal::OutOfOrder(n));
            }
            // A number far ahead would leave none for the edits of others. A number
            // that does not follow those before belongs to another operation.
            let built_on = change.deps().iter().map(|dep| self.max_op_of(dep, &new)).max();
            let numbers = built_on.unwrap_or_default() + 1..=max_op + 1;
            if !numbers.contains(&change.start_op().get()) {
                return Err(malformed("its operations do not count on from those before"));
            }
            self.knows_what_it_names(&change, &outline, &mut new).map_err(malformed)?;
            max_op = max_op.max(change.max_op());
            new.push(change);
        }
        let new = new.changes;
        let mut doc = self.doc.clone();
        let mut rest = &new[..];
        while !rest.is_empty() {
            let (changes, more) = rest.split_at(fitting(rest, AT_ONCE, Change::len));
            let applied = doc.apply_changes(changes.iter().cloned());
            applied.map_err(|error| Refusal::Unfit(error.to_string()))?;
            rest = more;
        }
        let with = Self { doc, text: self.text.clone(), genesis: self.genesis.clone(), max_op };
        with.check(&new, &self.heads())?;
        Ok((with, new))
    }

    /// How many operations its history has. They determine the memory that it needs.
    pub fn operations(&self) -> u64 {
        self.doc.stats().num_ops
    }

    fn max_op_of(&self, head: &Head, new: &New) -> u64 {
        match new.get(head) {
            Some(change) => change.max_op(),
            None => self.doc.get_change_meta_by_hash(head).map_or(0, |change| change.max_op),
        }
    }

    /// A change must refer only to operations in the changes that it builds on, and
    /// must build on its author's previous change. Otherwise a saved document could not
    /// be loaded, or would depend on the order in which changes arrived.
    fn knows_what_it_names(
        &self,
        change: &Change,
        outline: &Outline<'_>,
        new: &mut New,
    ) -> Result<(), &'static str> {
        // A document has an actor's changes without gaps, so the first one that is
        // missing stands for those after it.
        let actors = outline.named.iter().map(|(actor, _)| ActorId::from(*actor));
        let actors = actors.chain([change.actor_id().clone()]);
        new.apart_from(change, actors, &self.doc, |apart| {
            if apart.actor == *change.actor_id() && apart.seq < change.seq() {
                return Err("it does not build on what its author did before");
            }
            let knows =
                |(actor, last): &(&[u8], u64)| *actor != apart.actor.to_bytes() || *last < apart.start_op;
            match outline.named.iter().all(knows) {
                true => Ok(()),
                false => Err("it names what is not in the changes that it builds on"),
            }
        })
    }

    fn check(&self, new: &[Change], before: &[Head]) -> Result<(), Refusal> {
        // automerge keeps only the operations of a change, and rebuilds the change for
        // other peers and on loading. The rebuilt change has to be identical.
        let again: HashSet<_> = self.doc.get_changes(before).iter().map(Change::hash).collect();
        if !new.iter().all(|change| again.contains(&change.hash())) {
            return Err(Refusal::Unfit("some of them could not be applied".to_owned()));
        }
        let stats = self.doc.stats();
        let (operations, changes) = (stats.num_ops, stats.num_changes);
        if operations > HISTORY_OPERATIONS || changes > HISTORY_CHANGES {
            return Err(Refusal::HistoryTooLong { operations, changes });
        }
        match (self.len(), self.heads().len()) {
            (length, _) if length > TEXT_BYTES => Err(Refusal::TextTooLong(length)),
            (_, heads) if heads > HEADS => Err(Refusal::TooManyHeads(heads)),
            _ => Ok(()),
        }
    }
}

/// Changes that are not part of the document yet, in order.
#[derive(Default)]
struct New {
    changes: Vec<Change>,
    places: HashMap<Head, usize>,
    /// The changes of each actor, in order.
    by_actor: HashMap<ActorId, Vec<usize>>,
    /// What each of them builds on: some of these changes, and some of the document's.
    built_on: Vec<(Vec<usize>, Vec<Head>)>,
    /// The heads of the document with these changes.
    heads: Vec<Head>,
    /// For some heads: each actor's first change in the document that they do not
    /// include. Cached, because changes that arrive together mostly build on the same
    /// heads.
    apart: (Vec<Head>, Vec<Apart>),
}

/// A change that another one does not build on.
struct Apart {
    actor: ActorId,
    seq: u64,
    start_op: u64,
}

impl New {
    fn get(&self, head: &Head) -> Option<&Change> {
        self.places.get(head).map(|place| &self.changes[*place])
    }

    fn push(&mut self, change: Change) {
        advance(&mut self.heads, &change);
        self.places.insert(change.hash(), self.changes.len());
        self.by_actor.entry(change.actor_id().clone()).or_default().push(self.changes.len());
        self.built_on.push(self.built_on(&change));
        self.changes.push(change);
    }

    fn built_on(&self, change: &Change) -> (Vec<usize>, Vec<Head>) {
        let (mut new, mut known) = (Vec::new(), Vec::new());
        for head in change.deps() {
            match self.places.get(head) {
                Some(place) => new.push(*place),
                None => known.push(*head),
            }
        }
        (new, known)
    }

    /// Calls `ask` with the changes that `change` does not build on: for each actor
    /// with the first of the document's, and with the first of the new ones if the
    /// actor is among `actors`.
    fn apart_from<E>(
        &mut self,
        change: &Change,
        actors: impl Iterator<Item = ActorId>,
        doc: &Automerge,
        mut ask: impl FnMut(&Apart) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.heads.iter().all(|head| change.deps().contains(head)) {
            return Ok(());
        }
        let (mut next, mut known) = self.built_on(change);
        let mut seen = vec![false; self.changes.len()];
        while let Some(place) = next.pop() {
            if !mem::replace(&mut seen[place], true) {
                next.extend(&self.built_on[place].0);
                known.extend(&self.built_on[place].1);
            }
        }
        known.sort_unstable();
        known.dedup();
        if self.apart.0 != known {
            let mut apart = HashMap::new();
            for change in doc.get_changes_meta(&known) {
                let first =
                    apart.entry(change.actor.clone().into_owned()).or_insert((change.seq, change.start_op));
                *first = (*first).min((change.seq, change.start_op));
            }
            let apart = apart.into_iter().map(|(actor, (seq, start_op))| Apart { actor, seq, start_op });
            self.apart = (known, apart.collect());
        }
        self.apart.1.iter().try_for_each(&mut ask)?;
        for actor in actors {
            let mut places = self.by_actor.get(&actor).into_iter().flatten();
            if let Some(place) = places.find(|place| !seen[**place]) {
                let first = &self.changes[*place];
                ask(&Apart { actor, seq: first.seq(), start_op: first.start_op().get() })?;
            }
        }
        Ok(())
    }
}

/// How many of the first items cost no more than `most` together. At least one, if
/// there is one.
fn fitting<T>(items: &[T], most: usize, cost: impl Fn(&T) -> usize) -> usize {
    let mut sum = 0;
    let fit = items.iter().enumerate().take_while(|(place, item)| {
        sum += cost(item);
        *place == 0 || sum <= most
    });
    fit.count()
}

/// Updates `heads` to include this change.
pub fn advance(heads: &mut Vec<Head>, change: &Change) {
    heads.retain(|head| !change.deps().contains(head) && *head != change.hash());
    heads.push(change.hash());
}

#[cfg(test)]
mod tests;
