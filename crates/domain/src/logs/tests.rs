#![cfg(unix)]

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::SystemTime,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    reading::{CHUNK, TAIL},
    *,
};

/// A directory with logs, and another one next to it.
struct Place {
    root: PathBuf,
    logs: Arc<Logs>,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        let logs = Arc::new(Logs::open(&root, OpenFiles::new(8)).unwrap());
        Self { root, logs, _directory: directory }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root.join(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = fs::File::options().create(true).append(true).open(self.root.join(name)).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.root.join(from), self.root.join(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.root.join(name)).unwrap();
    }

    fn truncate(&self, name: &str) {
        fs::File::options().write(true).open(self.root.join(name)).unwrap().set_len(0).unwrap();
    }

    /// In seconds since 1970.
    fn written_at(&self, name: &str, time: u64) {
        let file = fs::File::options().write(true).open(self.root.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)).unwrap();
    }

    fn follow(&self, start: Start) -> (Follower, Vec<String>) {
        let (follower, event) = self.logs.follow("log", start).unwrap();
        (follower, event.iter().map(shown).collect())
    }

    fn refusal(&self, path: &str) -> LogError {
        self.logs.follow(path, Start::Beginning).unwrap_err()
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Opened { size } => format!("opened {size}"),
        Event::Chunk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Event::Rotated { rest_missing: false } => "rotated".to_owned(),
        Event::Rotated { rest_missing: true } => "rotated, rest missing".to_owned(),
        Event::Truncated => "truncated".to_owned(),
    }
}

/// Everything that there is by now.
fn drained(follower: &mut Follower) -> Vec<String> {
    std::iter::from_fn(|| follower.poll().unwrap()).map(|event| shown(&event)).collect()
}

#[test]
fn a_follower_begins_where_it_was_told() {
    let place = Place::new();
    place.write("log", "one\ntwo\n");
    for (start, first) in
        [(Start::Beginning, Some("one\ntwo\n")), (Start::Offset(4), Some("two\n")), (Start::End, None)]
    {
        let (mut follower, opened) = place.follow(start.clone());
        assert_eq!(opened, ["opened 8"]);
        assert_eq!(drained(&mut follower), first.into_iter().collect::<Vec<_>>(), "{start:?}");
        assert_eq!(follower.position().offset, 8);
    }
    let beyond = place.logs.follow("log", Start::Offset(9)).unwrap_err();
    assert_eq!(beyond.to_string(), "offset 9 is beyond the end: the file has 8 bytes");
    place.logs.follow("log", Start::Offset(8)).unwrap();
}

#[test]
fn a_follower_begins_so_many_lines_before_the_end() {
    let begins_at = |text: &str, lines| {
        let place = Place::new();
        place.write("log", text);
        place.follow(Start::LastLines(lines)).0.position().offset
    };
    for (text, lines, at) in [
        ("", 10, 0),
        ("one\ntwo\n", 0, 8),
        ("one\ntwo\n", 1, 4),
        ("one\ntwo\n", 2, 0),
        ("one\ntwo\n", 3, 0),
        // A line without an end is one as well, and so is an empty one.
        ("one\ntwo", 1, 4),
        ("one\n\n", 1, 4),
        ("\n\n", 2, 0),
    ] {
        assert_eq!(begins_at(text, lines), at, "{text:?}, {lines}");
    }
    let short = "line\n".repeat(TAIL as usize);
    assert_eq!(begins_at(&short, u32::MAX), 4 * TAIL + 1, "with a whole line");
    assert_eq!(begins_at(&short, 10), 5 * TAIL - 50);
    let long = "x".repeat(2 * TAIL as usize);
    assert_eq!(begins_at(&long, 1), TAIL, "in the line that is longer");
}

#[test]
fn chunks_have_a_bound() {
    let place = Place::new();
    let text = "0123456789".repeat(CHUNK / 4);
    place.write("log", &text);
    let (mut follower, _) = place.follow(Start::Beginning);
    let chunks = drained(&mut follower);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK), "{:?}", chunks.len());
    assert_eq!(chunks.concat(), text);
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_next_one() {
    let place = Place::new();
    place.append("log", "a");
    let (mut follower, _) = place.follow(Start::Beginning);
    assert_eq!(drained(&mut follower), ["a"]);
    place.append("log", "b");
    place.rename("log", "log.1");
    assert_eq!(drained(&mut follower), ["b"]);
    place.append("log.1", "c");
    assert_eq!(drained(&mut follower), ["c"], "a name that is gone is waited for");
    place.append("log.1", "d");
    place.append("log", "e");
    assert_eq!(drained(&mut follower), ["d", "rotated", "e"]);
    place.remove("log");
    assert_eq!(drained(&mut follower), [""; 0]);
    place.append("log", "f");
    assert_eq!(drained(&mut follower), ["rotated", "f"]);
}

#[test]
fn what_is_written_just_before_a_rotation_is_read() {
    const ROTATIONS: u64 = 1_000;
    let place = Place::new();
    place.write("log", "");
    let (mut follower, _) = place.follow(Start::Beginning);
    let heard = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for rotation in 1..=ROTATIONS {
                place.append("log", &format!("{rotation}\n"));
                place.rename("log", "log.1");
                place.write("log", "");
                // One rotation at a time, or a file in between would be missed.
                while heard.load(SeqCst) < rotation {
                    std::thread::yield_now();
                }
            }
        });
        for rotation in 1..=ROTATIONS {
            let mut events = Vec::new();
            while events.last().is_none_or(|event| event != "rotated") {
                events.extend(follower.poll().unwrap().as_ref().map(shown));
            }
            let all = events == [format!("{rotation}\n"), "rotated".to_owned()];
            heard.store(if all { rotation } else { u64::MAX }, SeqCst);
            assert!(all, "{events:?} of rotation {rotation}");
        }
    });
}

#[test]
fn truncation_is_told_also_when_the_file_has_grown_past_it() {
    let place = Place::new();
    place.append("log", "one\n");
    let (mut follower, _) = place.follow(Start::Beginning);
    assert_eq!(drained(&mut follower), ["one\n"]);
    place.truncate("log");
    place.append("log", "2\n");
    assert_eq!(drained(&mut follower), ["truncated", "2\n"]);
    place.truncate("log");
    place.append("log", "three, four and five\n");
    assert_eq!(drained(&mut follower), ["truncated", "three, four and five\n"]);
}

#[test]
fn a_position_is_gone_on_from_whatever_has_happened_since() {
    let place = Place::new();
    place.append("log", "one\n");
    let (mut follower, _) = place.follow(Start::Beginning);
    drained(&mut follower);
    let position = follower.position();
    drop(follower);
    let resumed = || {
        let (mut follower, mut events) = place.follow(Start::Position(position.clone()));
        events.extend(drained(&mut follower));
        events
    };
    assert_eq!(resumed(), ["opened 4"]);
    place.append("log", "two\n");
    assert_eq!(resumed(), ["opened 8", "two\n"]);
    place.rename("log", "log.1");
    assert_eq!(resumed(), ["opened 8", "two\n"], "its name is not there yet");
    place.append("log", "three\n");
    assert_eq!(resumed(), ["opened 8", "two\n", "rotated", "three\n"]);
    place.write("log.1", "another log\n");
    assert_eq!(resumed(), ["truncated", "another log\n", "rotated", "three\n"]);
    place.remove("log.1");
    assert_eq!(resumed(), ["rotated, rest missing", "three\n"]);
    place.remove("log");
    let (mut follower, events) = place.follow(Start::Position(position.clone()));
    assert_eq!((events, drained(&mut follower)), (vec![], vec![]));
    assert_eq!(follower.position(), position);
    place.append("log", "four\n");
    assert_eq!(drained(&mut follower), ["rotated, rest missing", "four\n"]);
}

#[test]
fn rotations_while_nobody_follows_lose_nothing_in_silence() {
    let place = Place::new();
    let write = |name: &str, text: &str, time| {
        place.write(name, text);
        place.written_at(name, time);
    };
    write("log", "2\n", 2);
    let position = place.follow(Start::Beginning).0.position();
    place.rename("log", "log.3");
    // Older ones, and what is no part of this log.
    write("log.4", "1\n", 1);
    write("log.err", "x\n", 3);
    write("logs.1", "x\n", 3);
    write("log.2", "3\n", 3);
    write("log.1", "4\n", 4);
    write("log", "5\n", 5);
    let resumed = || {
        let (mut follower, mut events) = place.follow(Start::Position(position.clone()));
        events.extend(drained(&mut follower));
        events
    };
    assert_eq!(resumed(), ["opened 2", "2\n", "rotated", "3\n", "rotated", "4\n", "rotated", "5\n"]);
    place.rename("log.2", "log.2.gz");
    assert_eq!(resumed(), ["opened 2", "2\n", "rotated, rest missing", "5\n"]);
}

#[test]
fn an_absolute_link_that_stays_inside_is_followed_also_by_its_rotations() {
    let place = Place::new();
    for directory in ["pods", "containers"] {
        fs::create_dir(place.root.join(directory)).unwrap();
    }
    place.append("pods/log", "one\n");
    symlink(place.root.join("pods/log"), place.root.join("containers/link")).unwrap();
    symlink(place.root.join("pods"), place.root.join("all")).unwrap();
    for path in ["containers/link", "all/log"] {
        let (mut follower, _) = place.logs.follow(path, Start::Beginning).unwrap();
        assert_eq!(drained(&mut follower), ["one\n"], "{path}");
    }
    let (follower, _) = place.logs.follow("containers/link", Start::Beginning).unwrap();
    let position = Start::Position(follower.position());
    place.rename("pods/log", "pods/log.1");
    place.append("pods/log", "two\n");
    let (mut follower, _) = place.logs.follow("containers/link", position).unwrap();
    assert_eq!(drained(&mut follower), ["one\n", "rotated", "two\n"]);
    // Only a link may be absolute.
    assert!(matches!(place.refusal(place.root.join("pods/log").to_str().unwrap()), LogError::BadPath { .. }));
}

#[test]
fn positions_that_nobody_gave_are_not_believed() {
    let place = Place::new();
    place.append("log", "one\n");
    let (follower, _) = place.follow(Start::End);
    let true_one = follower.position();
    let from = |position: Position| place.follow(Start::Position(position)).1;
    assert_eq!(from(Position { offset: u64::MAX, ..true_one.clone() }), ["truncated"]);
    assert_eq!(from(Position { offset: 2, ..true_one.clone() }), ["truncated"]);
    assert_eq!(from(Position { check: 0, ..true_one.clone() }), ["truncated"]);
    assert_eq!(from(Position { file: FileId("x".into()), ..true_one }), ["rotated, rest missing"]);
}

#[test]
fn nothing_outside_of_the_directory_is_opened() {
    let place = Place::new();
    let secret = place.root.parent().unwrap().join("secret");
    symlink(&secret, place.root.join("link")).unwrap();
    symlink("../secret", place.root.join("relative")).unwrap();
    symlink(place.root.parent().unwrap(), place.root.join("up")).unwrap();
    for path in ["../secret", secret.to_str().unwrap(), "link", "relative", "up/secret", "./../secret", ".."]
    {
        let refused = place.refusal(path);
        assert!(matches!(refused, LogError::BadPath { .. }), "{path}: {refused:?}");
    }
    // Links and dots that stay inside are as good as any path.
    place.write("log", "x");
    fs::create_dir(place.root.join("sub")).unwrap();
    symlink("../log", place.root.join("sub/link")).unwrap();
    for path in ["sub/link", "sub/../log", "./log"] {
        place.logs.follow(path, Start::Beginning).unwrap();
    }
}

#[test]
fn only_regular_files_are_opened_and_nothing_hangs() {
    let place = Place::new();
    assert!(Command::new("mkfifo").arg(place.root.join("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(place.root.join("socket")).unwrap();
    fs::create_dir(place.root.join("sub")).unwrap();
    for path in ["fifo", "socket", "sub", "."] {
        let refused = place.refusal(path);
        assert!(refused.to_string().contains("is not a regular file"), "{path}: {refused:?}");
    }
    // A log that becomes a pipe is gone, and comes back with the next file.
    place.write("log", "a");
    let (mut follower, _) = place.follow(Start::End);
    place.rename("log", "log.1");
    place.rename("fifo", "log");
    assert_eq!(drained(&mut follower), [""; 0]);
    place.remove("log");
    place.write("log", "b");
    assert_eq!(drained(&mut follower), ["rotated", "b"]);
}

#[test]
fn refusals_say_what_is_wrong() {
    let place = Place::new();
    assert!(matches!(place.refusal("none"), LogError::NotFound { .. }));
    assert!(matches!(place.refusal("none/none"), LogError::NotFound { .. }));
    place.write("log", "x");
    for path in ["", "log/none", "a\0b", &"x".repeat(300), &"x/".repeat(600)] {
        assert!(
            matches!(place.refusal(path), LogError::BadPath { .. }),
            "{path:?}: {:?}",
            place.refusal(path)
        );
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Append(usize),
    Rotate,
    /// The name goes; somebody else may still have the file.
    Remove,
    Truncate,
    /// The reader takes all that there is.
    Drain,
    /// The reader goes away and comes back with its position.
    Resume,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        6 => (1..40usize).prop_map(Happening::Append),
        1 => (5_000..20_000usize).prop_map(Happening::Append),
        2 => Just(Happening::Rotate),
        1 => Just(Happening::Remove),
        2 => Just(Happening::Truncate),
        4 => Just(Happening::Drain),
        2 => Just(Happening::Resume),
    ];
    prop::collection::vec(happening, 1..60)
}

/// What a reader has to deliver, by what is known of the files and not by
/// looking at them.
#[derive(Default)]
struct Model {
    files: Vec<Modelled>,
    /// Which of them has the name.
    named: Option<usize>,
    /// Which one the reader is in, or was.
    reading: usize,
    offset: usize,
    /// How often the file had been truncated when the reader last read it.
    seen: usize,
    /// What the reader holds is there for it although no name is.
    held: bool,
}

#[derive(Default)]
struct Modelled {
    content: String,
    truncations: usize,
    removed: bool,
}

impl Model {
    fn drain(&mut self) -> String {
        let mut delivered = String::new();
        loop {
            if self.held {
                let file = &self.files[self.reading];
                if file.truncations != self.seen && self.offset > 0 {
                    delivered += "<truncated>";
                    self.offset = 0;
                }
                delivered += &file.content[self.offset..];
                (self.seen, self.offset) = (file.truncations, file.content.len());
            }
            match self.named.filter(|named| *named != self.reading) {
                Some(named) => {
                    delivered += if self.held { "<rotated>" } else { "<rest missing>" };
                    let mut later = self.reading + 1..named;
                    let next = later.find(|file| self.held && !self.files[*file].removed).unwrap_or(named);
                    (self.reading, self.offset, self.held) = (next, 0, true);
                    self.seen = self.files[next].truncations;
                }
                None => return delivered,
            }
        }
    }
}

fn delivered(follower: &mut Follower, first: Option<Event>) -> String {
    let events = first.into_iter().chain(std::iter::from_fn(|| follower.poll().unwrap()));
    let text = |event: Event| match event {
        Event::Opened { .. } => String::new(),
        Event::Chunk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Event::Rotated { rest_missing: false } => "<rotated>".to_owned(),
        Event::Rotated { rest_missing: true } => "<rest missing>".to_owned(),
        Event::Truncated => "<truncated>".to_owned(),
    };
    events.map(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_file_the_reader_delivers_what_the_model_says(happenings in happenings()) {
        let place = Place::new();
        place.write("log", "");
        place.written_at("log", 0);
        let mut model = Model { files: vec![Modelled::default()], named: Some(0), held: true, ..Model::default() };
        let (mut follower, _) = place.follow(Start::Beginning);
        let mut number = 0;
        for (time, happening) in (1..).zip(happenings.into_iter().chain([Happening::Drain])) {
            // The clock of a file system may stand still between two of them.
            let written = || place.written_at("log", time);
            match happening {
                Happening::Append(length) => {
                    // No two pieces are equal: what was there before a
                    // truncation never comes again.
                    let mut text = String::new();
                    while text.len() < length {
                        number += 1;
                        text += &format!("{number:08}\n");
                    }
                    let named = *model.named.get_or_insert_with(|| {
                        model.files.push(Modelled::default());
                        model.files.len() - 1
                    });
                    place.append("log", &text);
                    written();
                    model.files[named].content += &text;
                }
                Happening::Rotate => {
                    if let Some(named) = model.named.take() {
                        place.rename("log", &format!("log.{named}"));
                    }
                }
                Happening::Remove => {
                    if let Some(named) = model.named.take() {
                        place.remove("log");
                        model.files[named].removed = true;
                    }
                }
                Happening::Truncate => {
                    if let Some(named) = model.named {
                        place.truncate("log");
                        written();
                        let file = &mut model.files[named];
                        // Truncating what is empty changes nothing.
                        if !file.content.is_empty() {
                            file.content.clear();
                            file.truncations += 1;
                        }
                    }
                }
                Happening::Drain => {
                    prop_assert_eq!(delivered(&mut follower, None), model.drain());
                }
                Happening::Resume => {
                    let position = follower.position();
                    drop(follower);
                    model.held = !model.files[model.reading].removed;
                    let first;
                    (follower, first) = place.logs.follow("log", Start::Position(position)).unwrap();
                    prop_assert_eq!(delivered(&mut follower, first), model.drain());
                }
            }
        }
    }
}
