//! The messages to send, from any source.
//!
//! They are read by a thread of its own, because a file may be long and a terminal may
//! block for ever.

use std::{
    fs::File,
    io::{self, Cursor, Read, Write as _},
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use schema::json::{self, Object, Objects};
use tokio::sync::mpsc;

use crate::{
    failure::Failure,
    lines::Lines,
    prompt::{self, Editor},
};

/// The JSON of a message is a few times as long as the message.
const LONGEST_JSON: usize = 256 << 20;
/// How many messages are read ahead.
const AHEAD: usize = 64;

const NEXT: &str = "--template shows what the method takes; SERVICE/METHOD without -d sends an empty message";

/// The source of the messages.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// No messages.
    Nothing,
    Json(Place),
    /// As gRPC frames them on the wire: a zero byte, the length in four bytes, the
    /// message.
    Binary(Place),
    /// Each line typed is a message.
    Typed,
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl Place {
    /// Parses `@FILE`, `@-` or literal text.
    pub(super) fn of(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some("-") => Self::Stdin,
            Some(file) => Self::File(file.into()),
            None => Self::Text(text.to_owned()),
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>, Failure> {
        match self {
            Self::Text(text) => Ok(Box::new(Cursor::new(text.clone().into_bytes()))),
            Self::File(file) => match File::open(file) {
                Ok(opened) => Ok(Box::new(opened)),
                Err(error) => Err(Failure::input(file, error)),
            },
            Self::Stdin => Ok(Box::new(io::stdin())),
        }
    }

    fn failure(&self, reason: impl std::fmt::Display) -> Failure {
        match self {
            Self::Text(_) => Failure::unfit(format!("-d: {reason}"), NEXT),
            Self::File(file) => Failure::unfit(format!("{}: {reason}", file.display()), NEXT),
            Self::Stdin => Failure::unfit(format!("standard input: {reason}"), NEXT),
        }
    }
}

/// The messages read ahead. An error is the last item.
pub(super) type Messages = mpsc::Receiver<Result<Bytes, Failure>>;

impl Input {
    /// Whether the input can be read again from the beginning.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Typed | Self::Json(Place::Stdin) | Self::Binary(Place::Stdin))
    }

    /// Starts to read. Lines are typed into `editor`, if there is one.
    pub(super) fn read(&self, desc: &MessageDescriptor, editor: Option<Editor>) -> Messages {
        let (sender, messages) = mpsc::channel(AHEAD);
        let (input, desc) = (self.clone(), desc.clone());
        thread::spawn(move || {
            // Fails when the receiver was dropped.
            let send = |message| sender.blocking_send(message).is_ok();
            let ended = match &input {
                Self::Nothing => Ok(()),
                Self::Json(place) => place.open().and_then(|from| read_json(place, from, &desc, send)),
                Self::Binary(place) => place.open().and_then(|from| read_binary(place, from, send)),
                Self::Typed => read_lines(editor, &desc, send),
            };
            if let Err(failure) = ended {
                send(Err(failure));
            }
        });
        messages
    }
}

fn read_json(
    place: &Place,
    from: Box<dyn Read + Send>,
    desc: &MessageDescriptor,
    send: impl Fn(Result<Bytes, Failure>) -> bool,
) -> Result<(), Failure> {
    let mut objects = Objects::new(from, LONGEST_JSON);
    for number in 1_u64.. {
        let numbered = |reason: &dyn std::fmt::Display| place.failure(format!("message {number}: {reason}"));
        let Some(object) = objects.next_object().map_err(|error| numbered(&error))? else { break };
        let message = json::message(desc, object).map_err(|misfit| numbered(&misfit))?;
        if !send(Ok(message.encode_to_vec().into())) {
            break;
        }
    }
    Ok(())
}

fn read_binary(
    place: &Place,
    mut from: Box<dyn Read + Send>,
    send: impl Fn(Result<Bytes, Failure>) -> bool,
) -> Result<(), Failure> {
    for number in 1_u64.. {
        let wrong = |reason: &str| place.failure(format!("message {number}: {reason}"));
        let mut head = Vec::with_capacity(5);
        (&mut from).take(5).read_to_end(&mut head).map_err(|error| wrong(&error.to_string()))?;
        let length = match head.as_slice() {
            [] => break,
            [0, length @ ..] if length.len() == 4 => {
                length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            [0, ..] => return Err(wrong("it ends within the length")),
            [flag, ..] => {
                return Err(wrong(&format!(
                    "it starts with {flag} in place of 0 and a length in four bytes"
                )));
            }
        };
        let mut message = Vec::new();
        (&mut from).take(length).read_to_end(&mut message).map_err(|error| wrong(&error.to_string()))?;
        if (message.len() as u64) < length {
            return Err(wrong(&format!("it has {} bytes, but its length says {length}", message.len())));
        }
        if !send(Ok(message.into())) {
            break;
        }
    }
    Ok(())
}

/// Reads a message from each line. An invalid line is reported and not sent.
fn read_lines(
    editor: Option<Editor>,
    desc: &MessageDescriptor,
    send: impl Fn(Result<Bytes, Failure>) -> bool,
) -> Result<(), Failure> {
    let unreadable = |error| Failure::input(Path::new("-"), error);
    let is_edited = editor.is_some();
    let take =
        |line: &str, number: u64| match json::message(desc, Object { text: line, line: number, column: 1 }) {
            Ok(message) => send(Ok(message.encode_to_vec().into())),
            Err(misfit) => {
                let text = format!("not sent: {misfit}\n");
                // There is no other place for the message if this fails.
                let _ = match is_edited {
                    true => prompt::write_above(text.as_bytes()).map(drop),
                    false => io::stderr().write_all(text.as_bytes()),
                };
                true
            }
        };
    if let Some(mut editor) = editor {
        for number in 1_u64.. {
            let Some(line) = editor.line().map_err(unreadable)? else { break };
            if !line.trim().is_empty() && !take(line.trim(), number) {
                break;
            }
        }
        return Ok(());
    }
    let mut lines = Lines::of(io::stdin());
    while lines.advance().map_err(unreadable)? {
        let line = String::from_utf8_lossy(lines.line()).into_owned();
        if !take(line.trim(), lines.number()) {
            break;
        }
    }
    Ok(())
}
