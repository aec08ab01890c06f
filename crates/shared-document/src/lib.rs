//! The text that `sync` keeps in step, as both sides of the wire have it.
//!
//! A document is an automerge document whose root has one key, `text`, with one
//! text object. The change that makes it, the *genesis*, is the same everywhere:
//! it has a fixed actor and no time, so that clients that began apart have the
//! same object and their texts come together in it. No change that a peer sends
//! can touch anything else: see `change.rs`.

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
/// The longest change, in bytes: all of a text replaced by another one fits.
pub const CHANGE_BYTES: usize = 3 << 20;
/// How many edits of single characters a document remembers. They are what
/// memory and time are spent on, whatever is left of them in the text.
pub const HISTORY_OPERATIONS: u64 = 4 << 20;
/// How many changes a document remembers. Tests have no time to make so many.
pub const HISTORY_CHANGES: u64 = if cfg!(test) { 1 << 12 } else { 1 << 18 };
/// How many changes nobody has built upon yet. Each editor that was away adds
/// one, and the next edit of anybody joins them all.
pub const HEADS: usize = 1024;

/// How many operations a change has at most, and how many are applied together.
/// automerge takes some 700 bytes for each while it works.
const AT_ONCE: usize = 128 << 10;

/// Sorts before every actor that is chosen at random, of which nothing depends.
const GENESIS_ACTOR: [u8; 16] = *b"\0fourmodes/sync\0";

/// A text and all that ever happened to it.
#[derive(Debug, Clone)]
pub struct Document {
    doc: Automerge,
    text: ObjId,
    genesis: Vec<Head>,
    /// The highest number of an operation. They count on from each other.
    max_op: u64,
}

/// Why changes are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not what a change of a text looks like.
    #[error("change {0} is none of a document's text: {1}")]
    Malformed(usize, &'static str),
    /// It was made on top of changes that are not there.
    #[error("change {0} builds on changes that the document does not have; send those first")]
    OutOfOrder(usize),
    /// Its operations.
    #[error("a change has {0} operations; {AT_ONCE} are allowed; make several changes of it")]
    ChangeTooLong(u64),
    /// Another change of this actor has its number.
    #[error("the changes do not fit the document: {0}")]
    Unfit(String),
    /// The text that would result, in bytes.
    #[error("the text would have {0} bytes; {TEXT_BYTES} are allowed")]
    TextTooLong(usize),
    /// The history that would result.
    #[error(
        "the document's history would have {operations} operations in {changes} changes; \
         {HISTORY_OPERATIONS} in {HISTORY_CHANGES} are allowed; go on in a new document"
    )]
    HistoryTooLong {
        /// Edits of single characters.
        operations: u64,
        /// Changes with any number of them.
        changes: u64,
    },
    /// The heads that would result.
    #[error("the document would have {0} heads; {HEADS} are allowed; edit it with all that is in it")]
    TooManyHeads(usize),
}

/// What is asked of a document that is not one of ours, or never was so.
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
    /// None that anybody has seen.
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

    /// What [`save`](Self::save) has written. Its edits have a new author.
    ///
    /// # Errors
    ///
    /// When it is not that.
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

    /// All of it, with its history.
    pub fn save(&self) -> Vec<u8> {
        self.doc.save()
    }

    /// The changes that nobody has built upon yet. Documents with the same heads
    /// are the same, byte for byte.
    pub fn heads(&self) -> Vec<Head> {
        self.doc.get_heads()
    }

    /// Whether a change is part of it.
    pub fn has(&self, change: &Head) -> bool {
        self.doc.get_change_meta_by_hash(change).is_some()
    }

    /// Whether all of `heads` are part of it.
    pub fn has_all(&self, heads: &[Head]) -> bool {
        heads.iter().all(|head| self.has(head))
    }

    /// The text as it is.
    ///
    /// # Errors
    ///
    /// None that anybody has seen.
    pub fn text(&self) -> Result<String, NoDocument> {
        Ok(self.doc.text(&self.text)?)
    }

    /// The text as it was.
    ///
    /// # Errors
    ///
    /// When it was never so: it does not have these heads.
    pub fn text_at(&self, heads: &[Head]) -> Result<String, NoDocument> {
        Ok(self.doc.text_at(&self.text, heads)?)
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        self.doc.length(&self.text)
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the text that was there at some heads into another one, next to all
    /// that happened to it since: by one change, or by several when there is much
    /// to do. Answers with the heads at which the text is the new one.
    ///
    /// # Errors
    ///
    /// When it does not have these heads.
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

    /// Puts a text of no known history into the document. The same text put in
    /// at two places is there once; a different one stands next to what is
    /// there. Answers with the heads at which the text is this one.
    ///
    /// # Errors
    ///
    /// None that anybody has seen.
    pub fn import(&mut self, text: &str) -> Result<Vec<Head>, NoDocument> {
        let genesis = Self::genesis()?;
        let mut imported = genesis.clone();
        let mut actor = blake3::Hasher::new();
        actor.update(text.as_bytes());
        if text.len() > AT_ONCE {
            // Earlier versions have made one change of it, by the actor without this.
            actor.update(b"in parts");
        }
        let actor = actor.finalize();
        imported.doc.set_actor(ActorId::from(&actor.as_bytes()[..16]));
        let heads = imported.edit(&genesis.heads(), text)?;
        self.max_op = self.max_op.max(imported.max_op);
        self.doc.apply_changes(imported.doc.get_changes(&genesis.heads()))?;
        Ok(heads)
    }

    /// Of texts that the document had, the one that is closest to another.
    pub fn closest<'a>(&self, heads: impl IntoIterator<Item = &'a [Head]>, text: &str) -> Option<&'a [Head]> {
        heads.into_iter().min_by_key(|heads| match self.text_at(heads) {
            Ok(old) => {
                let splices = difference::between(&old, text);
                splices.iter().map(Splice::cost).sum()
            }
            Err(_) => usize::MAX,
        })
    }

    /// The changes that are not among `have` or what these were built on, in the
    /// order in which they can be applied, up to some bytes but always one. And
    /// what whoever had `have` has with them.
    pub fn changes_since(&self, have: &[Head], most: usize) -> (Vec<Change>, Vec<Head>) {
        let mut have: Vec<_> = have.iter().copied().filter(|head| self.has(head)).collect();
        if have.is_empty() {
            // Everybody has the genesis.
            have = self.genesis.clone();
        }
        let mut changes = self.doc.get_changes(&have);
        changes.truncate(fitting(&changes, most, |change| change.raw_bytes().len()));
        changes.truncate(fitting(&changes, change::OPERATIONS as usize, Change::len));
        changes.iter().for_each(|change| advance(&mut have, change));
        (changes, have)
    }

    /// This document with changes of a peer, and which of them it did not have.
    ///
    /// They are taken whole or not at all. They may have been made to do harm:
    /// the size of what they unfold to is bounded here.
    ///
    /// # Errors
    ///
    /// When they are no changes of a text or their result would break a limit.
    pub fn with(&self, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        self.with_up_to(AT_ONCE as u64, changes)
    }

    /// Like [`with`](Self::with), for changes that were taken before: those of
    /// earlier versions have up to as many operations as two whole texts.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn with_known(&self, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        self.with_up_to(change::OPERATIONS, changes)
    }

    fn with_up_to(&self, longest: u64, changes: &[impl AsRef<[u8]>]) -> Result<(Self, Vec<Change>), Refusal> {
        // automerge panics on some of what does not fit. This document is not
        // changed, and what was made of it is dropped.
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
            // A number far ahead would leave none for the edits of others, one that
            // is not after those before belongs to another operation.
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

    /// How many operations its history has. They are what it takes memory for.
    pub fn operations(&self) -> u64 {
        self.doc.stats().num_ops
    }

    fn max_op_of(&self, head: &Head, new: &New) -> u64 {
        match new.get(head) {
            Some(change) => change.max_op(),
            None => self.doc.get_change_meta_by_hash(head).map_or(0, |change| change.max_op),
        }
    }

    /// A change names nothing but what is in those that it builds on, and builds
    /// on the one before it of its author. A document with another one could not
    /// be loaded that was saved, or would depend on the order in which changes
    /// came.
    fn knows_what_it_names(
        &self,
        change: &Change,
        outline: &Outline<'_>,
        new: &mut New,
    ) -> Result<(), &'static str> {
        // Of an actor it has all up to a change of theirs, so the first that it
        // does not have tells about those after it, too.
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
        // Only the operations of a change are kept. It is made of them again for
        // others and when the document is loaded, and has to be the same.
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

/// Changes that are not part of a document yet, in their order.
#[derive(Default)]
struct New {
    changes: Vec<Change>,
    places: HashMap<Head, usize>,
    /// Those of an actor, in their order.
    by_actor: HashMap<ActorId, Vec<usize>>,
    /// What each of them builds on: some of those here, and of the document.
    built_on: Vec<(Vec<usize>, Vec<Head>)>,
    /// Of the document with them.
    heads: Vec<Head>,
    /// What the document has apart from some of its changes. Changes that come
    /// together were mostly made with the same ones at hand.
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

    /// Asks about the changes, of the document and of these, that one does not
    /// build on: about the first of each actor, of these if it is among `actors`.
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

/// How many of the first of some items cost no more than this together. Always one,
/// if there is one.
fn fitting<T>(items: &[T], most: usize, cost: impl Fn(&T) -> usize) -> usize {
    let mut sum = 0;
    let fit = items.iter().enumerate().take_while(|(place, item)| {
        sum += cost(item);
        *place == 0 || sum <= most
    });
    fit.count()
}

/// What whoever has `heads` has once it has this change, too.
pub fn advance(heads: &mut Vec<Head>, change: &Change) {
    heads.retain(|head| !change.deps().contains(head) && *head != change.hash());
    heads.push(change.hash());
}

#[cfg(test)]
mod tests;
