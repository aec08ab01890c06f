use std::{
    task::{Context, Waker},
    time::Duration,
};

use super::*;
use crate::peers;
use crate::store::{
    Memory,
    failing::{Failing, How},
};

/// Somebody who edits: a peer, and the document on its side.
struct Editor {
    peer: Peer,
    document: Document,
}

impl Editor {
    /// One who has nothing.
    async fn open(documents: &Documents) -> Self {
        let document = Document::genesis().unwrap();
        Self { peer: documents.open("notes", Vec::new()).await.unwrap(), document }
    }

    /// The changes that make its text into another one.
    fn edit(&mut self, text: &str) -> Vec<Vec<u8>> {
        let before = self.document.heads();
        self.document.edit(&before, text).unwrap();
        raw(&self.document, &before)
    }

    async fn writes(&mut self, text: &str) -> Result<(), DocumentError> {
        let changes = self.edit(text);
        self.peer.offer(changes).await
    }

    /// Takes one update. With the number of changes in it.
    async fn hears(&mut self) -> usize {
        let update = self.peer.update().await.unwrap();
        self.document = self.document.with(&update.changes).unwrap().0;
        update.changes.len()
    }

    /// The text once nothing is left to be heard.
    async fn text(&mut self) -> String {
        while self.is_behind() {
            self.hears().await;
        }
        self.document.text().unwrap()
    }

    fn is_behind(&mut self) -> bool {
        let behind = std::pin::pin!(self.peer.behind());
        behind.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

fn raw(document: &Document, since: &[Head]) -> Vec<Vec<u8>> {
    let changes = document.changes_since(since, usize::MAX).0;
    changes.iter().map(|change| change.raw_bytes().to_vec()).collect()
}

fn failing() -> (Arc<Failing>, Documents) {
    let store = Failing::new(Arc::new(Memory::default()));
    (store.clone(), Documents::new(store, Peers::alone(), 64))
}

/// For what comes at once, or never.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it never comes")
}

async fn records(store: &dyn Store) -> u64 {
    let extent = store.extent("document/notes").await.unwrap();
    extent.last + 1 - extent.first
}

#[tokio::test]
async fn a_change_is_given_to_all_others_once_and_not_to_whom_it_is_from() {
    let (_, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    assert_eq!((ana.hears().await, ben.hears().await), (0, 0));
    assert!(!ana.is_behind() && !ben.is_behind());
    ana.writes("ana").await.unwrap();
    // She is told that it is durable, by its head alone.
    assert!(ana.is_behind());
    let told = ana.peer.update().await.unwrap();
    assert_eq!((told.changes.len(), &told.heads), (0, &ana.document.heads()));
    soon(ben.peer.behind()).await;
    assert_eq!(ben.hears().await, 1);
    assert!(!ana.is_behind() && !ben.is_behind());
    // One who comes back with it has it.
    let known = documents.open("notes", [ben.document.heads(), vec![Head([7; 32])]].concat()).await;
    assert_eq!(known.unwrap().update().await.unwrap().changes.len(), 0);
    assert_eq!(Editor::open(&documents).await.text().await, "ana");
}

#[tokio::test]
async fn nobody_hears_of_a_change_before_it_is_on_the_disk() {
    let (store, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    store.now(How::Held);
    let changes = ana.edit("text");
    let mut peer = documents.open("notes", Vec::new()).await.unwrap();
    let offer = tokio::spawn(async move { peer.offer(changes).await });
    soon(store.met(1)).await;
    for editor in [&mut ana, &mut ben] {
        let update = editor.peer.update().await.unwrap();
        assert_eq!((update.changes.len(), update.heads), (0, Document::genesis().unwrap().heads()));
        assert!(!editor.is_behind());
    }
    store.now(How::Works);
    soon(offer).await.unwrap().unwrap();
    assert_eq!((ana.text().await, ben.text().await), ("text".into(), "text".into()));
}

#[tokio::test]
async fn an_offer_is_taken_to_its_end_when_the_peer_is_gone() {
    let (store, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    ben.hears().await;
    store.now(How::Held);
    let offer = tokio::spawn(async move { ana.writes("text").await });
    soon(store.met(1)).await;
    offer.abort();
    assert!(soon(offer).await.unwrap_err().is_cancelled());
    store.now(How::Works);
    soon(ben.peer.behind()).await;
    assert_eq!(ben.text().await, "text");
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_refused_until_there_is_room() {
    let (store, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    ana.writes("kept").await.unwrap();
    store.now(How::Full);
    let changes = ana.edit("kept and more");
    for _ in 0..2 {
        let refused = ana.peer.offer(changes.clone()).await;
        assert_eq!(refused, Err(DocumentError::Store(StoreError::Full)));
        assert_eq!(ben.text().await, "kept");
        assert_eq!(ana.peer.update().await.unwrap().heads, ben.document.heads());
    }
    store.now(How::Works);
    ana.peer.offer(changes).await.unwrap();
    assert_eq!(ben.text().await, "kept and more");
    drop((ana, ben));
    assert_eq!(Editor::open(&Documents::new(store, Peers::alone(), 64)).await.text().await, "kept and more");
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_there_once() {
    let (store, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    store.now(How::BrokenButMade);
    let changes = ana.edit("text");
    let lost = ana.peer.offer(changes.clone()).await;
    assert!(matches!(lost, Err(DocumentError::Store(StoreError::Broken(_)))), "{lost:?}");
    assert_eq!(ben.text().await, "", "nobody knows yet");
    store.now(How::Works);
    ana.peer.offer(changes).await.unwrap();
    assert_eq!((ben.text().await, records(&*store).await), ("text".into(), 1));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_empty_document() {
    let (store, documents) = failing();
    let mut ana = Editor::open(&documents).await;
    ana.writes("text").await.unwrap();
    drop(ana);
    store.now(How::Broken);
    let refused = documents.open("notes", Vec::new()).await.unwrap_err();
    assert!(matches!(refused, DocumentError::Store(StoreError::Broken(_))), "{refused}");
    store.now(How::Works);
    assert_eq!(Editor::open(&documents).await.text().await, "text");

    let record = store::encode(&Entry::Changes(vec![b"no change".to_vec()]));
    for record in [record, store::encode(&Entry::Snapshot(b"none".to_vec())), "\u{7}".into()] {
        let append = Write::Append { stream: "document/bad".into(), record, id: None, expect: None };
        store.commit(vec![append]).await.unwrap();
        let refused = documents.open("bad", Vec::new()).await.unwrap_err();
        assert!(matches!(refused, DocumentError::Store(StoreError::Damaged(_))), "{refused}");
        store.commit(vec![Write::Trim { stream: "document/bad".into(), before: u64::MAX }]).await.unwrap();
    }
}

#[tokio::test]
async fn changes_are_taken_all_or_none_and_the_same_ones_once() {
    let (store, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    let good = ana.edit("good");
    let bad = [good.clone(), vec![b"bad".to_vec()]].concat();
    let refused = ana.peer.offer(bad).await;
    assert!(matches!(refused, Err(DocumentError::Refused(Refusal::Malformed(1, _)))), "{refused:?}");
    assert_eq!((ben.text().await, records(&*store).await), (String::new(), 0));
    for _ in 0..3 {
        ana.peer.offer([good.clone(), good.clone()].concat()).await.unwrap();
    }
    assert_eq!((ben.text().await, records(&*store).await), ("good".into(), 1));
}

#[tokio::test]
async fn what_panics_is_refused_and_harms_nobody() {
    let panicked = computed(|| -> () { panic!("as told") }).await;
    assert!(matches!(panicked, Err(StoreError::Damaged(_))), "{panicked:?}");
}

#[tokio::test]
async fn a_document_is_given_in_parts() {
    let (_, documents) = failing();
    let (mut ana, mut ben) = (Editor::open(&documents).await, Editor::open(&documents).await);
    let mut text = String::new();
    for part in ["🦀", "🔬", "👩", "🎈", "🧭"] {
        text += &part.repeat(UPDATE / 5 / part.len());
        ana.writes(&text).await.unwrap();
    }
    let mut parts = 0;
    while ben.is_behind() {
        let update = ben.peer.update().await.unwrap();
        assert!(update.changes.iter().map(Vec::len).sum::<usize>() <= UPDATE || update.changes.len() == 1);
        ben.document = ben.document.with(&update.changes).unwrap().0;
        parts += 1;
    }
    assert_eq!(parts, 2);
    assert_eq!(ben.document.text().unwrap(), text);
}

/// More edits than a document has records.
async fn many(ana: &mut Editor) -> String {
    let mut text = String::new();
    for n in 0..=RECORDS {
        text = format!("{n}");
        ana.writes(&text).await.unwrap();
    }
    text
}

#[tokio::test]
async fn many_records_become_one_and_nothing_is_lost() {
    let (store, documents) = failing();
    let mut ana = Editor::open(&documents).await;
    let text = many(&mut ana).await;
    assert_eq!(records(&*store).await, 1);
    ana.writes("more").await.unwrap();
    assert_eq!(records(&*store).await, 2);
    drop(ana);
    let mut ben = Editor::open(&Documents::new(store.clone(), Peers::alone(), 64)).await;
    assert_eq!(ben.text().await, "more");
    assert_eq!(ben.document.changes_since(&Document::genesis().unwrap().heads(), usize::MAX).0.len(), 258);
    assert_ne!(text, "more");
}

#[tokio::test]
async fn records_that_cannot_be_made_one_stay_and_become_one_later() {
    let (store, documents) = failing();
    let mut ana = Editor::open(&documents).await;
    store.now(How::FullForTrims);
    let text = many(&mut ana).await;
    assert_eq!(records(&*store).await, RECORDS + 1);
    assert_eq!(Editor::open(&Documents::new(store.clone(), Peers::alone(), 64)).await.text().await, text);
    store.now(How::Works);
    ana.writes("more").await.unwrap();
    assert_eq!(records(&*store).await, 1);
    assert_eq!(Editor::open(&Documents::new(store.clone(), Peers::alone(), 64)).await.text().await, "more");
}

#[tokio::test]
async fn large_records_become_one_although_they_are_few() {
    let (store, documents) = failing();
    let mut ana = Editor::open(&documents).await;
    ana.writes("text").await.unwrap();
    ana.writes("other text").await.unwrap();
    let ben = Editor::open(&Documents::new(store.clone(), Peers::alone(), 64)).await;
    let stored = store.extent("document/notes").await.unwrap().bytes;
    for editor in [&ana, &ben] {
        assert_eq!(editor.peer.shared.log.lock().await.as_ref().unwrap().bytes, stored);
    }
    ana.peer.shared.log.lock().await.as_mut().unwrap().bytes = RECORDED;
    ana.writes("more").await.unwrap();
    assert_eq!(records(&*store).await, 1);
    let stored = store.extent("document/notes").await.unwrap().bytes;
    let log = ana.peer.shared.log.lock().await;
    let log = log.as_ref().unwrap();
    assert_eq!((log.snapshot, log.bytes, log.records), (stored, 0, 0));
}

#[tokio::test]
async fn there_are_not_more_documents_than_are_allowed_nor_more_peers_of_one() {
    let (_, documents) = failing();
    let mut open = Vec::new();
    for n in 0..MAX_DOCUMENTS {
        open.push(documents.open(&n.to_string(), Vec::new()).await.unwrap());
    }
    assert_eq!(documents.open("one more", Vec::new()).await.unwrap_err(), DocumentError::TooManyDocuments);
    drop(open.pop());
    documents.open("another", Vec::new()).await.unwrap();
    while open.len() < MAX_DOCUMENTS + MAX_PEERS - 2 {
        open.push(documents.open("0", Vec::new()).await.unwrap());
    }
    let refused = documents.open("0", Vec::new()).await.unwrap_err();
    assert_eq!(refused, DocumentError::TooManyPeers("0".to_owned()));
    drop(open.pop());
    documents.open("0", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn open_documents_remember_no_more_together_than_is_allowed() {
    let (_, mut documents) = failing();
    documents.budget.operations = Arc::new(Semaphore::new(1_000));
    let mut ana = Editor::open(&documents).await;
    ana.writes(&"a".repeat(600)).await.unwrap();
    let mut other = documents.open("other", Vec::new()).await.unwrap();
    let mut ben = Document::genesis().unwrap();
    let genesis = ben.heads();
    ben.edit(&genesis, &"b".repeat(600)).unwrap();
    assert_eq!(other.offer(raw(&ben, &genesis)).await.unwrap_err(), DocumentError::TooManyOperations);
    // Neither is the worse for it.
    ana.writes(&"c".repeat(600)).await.unwrap_err();
    ana.peer.offer(vec![]).await.unwrap();
    drop(ana);
    other.offer(raw(&ben, &genesis)).await.unwrap();
    // It has to be loaded, for which there is no place either.
    assert_eq!(documents.open("notes", Vec::new()).await.unwrap_err(), DocumentError::TooManyOperations);
    drop(other);
    documents.open("notes", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn edits_at_several_servers_come_together() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (_living, [one, other]) = peers::servers();
    let [one, other] = [one, other].map(|peers| Documents::new(store.clone(), peers, 64));
    let (mut ana, mut ben) = (Editor::open(&one).await, Editor::open(&other).await);
    ana.text().await;
    ben.text().await;
    // So many that the document is written anew, by either of them.
    for n in 0..RECORDS {
        let (line, same) = (format!("{n}\n"), n % 2 == 0);
        let editor = if same { &mut ana } else { &mut ben };
        let text = editor.document.text().unwrap() + &line;
        editor.writes(&text).await.unwrap();
    }
    for editor in [&mut ana, &mut ben] {
        soon(editor.peer.behind()).await;
    }
    while ana.text().await != ben.text().await {
        soon(async {
            tokio::select! { () = ana.peer.behind() => {}, () = ben.peer.behind() => {} }
        })
        .await;
    }
    let text = ana.text().await;
    assert!((0..RECORDS).all(|n| text.lines().any(|line| line == n.to_string())), "{text}");
    assert!(records(&*store).await <= RECORDS + 1);
    drop((ana, ben));
    assert_eq!(Editor::open(&Documents::new(store, Peers::alone(), 64)).await.text().await, text);
}
