//! What is typed.

use std::io;

use shared_proto::limits::TEXT_BYTES;
use tokio::sync::mpsc;

use crate::lines::Lines;

/// What can be posted of what is typed. A thread of its own reads it: a
/// terminal may block for ever, and nothing waits for a plain thread at the end.
pub(super) fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut lines = Lines::of(io::stdin());
        loop {
            match lines.advance() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::error!("standard input cannot be read: {error}"),
            }
            let number = lines.number();
            match std::str::from_utf8(lines.line()) {
                Ok(text) if text.len() <= TEXT_BYTES => {
                    if sender.blocking_send(text.to_owned()).is_err() {
                        return;
                    }
                }
                Ok(_) => tracing::warn!("line {number} not posted: it has more than {TEXT_BYTES} bytes"),
                Err(_) => tracing::warn!("line {number} not posted: it is not UTF-8"),
            }
        }
    });
    receiver
}
