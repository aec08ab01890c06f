//! What is typed.

use std::io;

use shared_proto::limits::TEXT_BYTES;
use tokio::sync::mpsc;

use crate::{lines::Lines, prompt::Editor};

/// What can be posted of what is typed, in an editor or just on standard input. A
/// thread of its own reads it: a terminal may block for ever, and nothing waits for a
/// plain thread at the end.
pub(super) fn typed_lines(editor: Option<Editor>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let read = match editor {
            Some(editor) => read_editor(editor, &sender),
            None => read_stdin(&sender),
        };
        if let Err(error) = read {
            tracing::error!("cannot read standard input: {error}");
        }
    });
    receiver
}

fn read_editor(mut editor: Editor, sender: &mpsc::Sender<String>) -> io::Result<()> {
    let mut number = 0;
    while let Some(line) = editor.line()? {
        number += 1;
        if !line.trim().is_empty() && !post(&line, number, sender) {
            break;
        }
    }
    Ok(())
}

fn read_stdin(sender: &mpsc::Sender<String>) -> io::Result<()> {
    let mut lines = Lines::of(io::stdin());
    while lines.advance()? {
        match std::str::from_utf8(lines.line()) {
            Ok(text) if post(text, lines.number(), sender) => {}
            Ok(_) => break,
            Err(_) => tracing::warn!("line {} not posted: it is not UTF-8", lines.number()),
        }
    }
    Ok(())
}

/// Whether there is any use in another line.
fn post(text: &str, number: u64, sender: &mpsc::Sender<String>) -> bool {
    if text.len() > TEXT_BYTES {
        tracing::warn!("line {number} not posted: it has more than {TEXT_BYTES} bytes");
        return true;
    }
    sender.blocking_send(text.to_owned()).is_ok()
}
