//! A line that somebody edits at the bottom of the terminal, below what is written
//! meanwhile.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustyline::{Config, DefaultEditor, ExternalPrinter, error::ReadlineError};

/// Writes above the line, while there is one.
static ABOVE: Mutex<Option<Box<dyn ExternalPrinter + Send>>> = Mutex::new(None);
/// Whether the prompt is gone, and no line is begun any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// The terminal as it was before, for when this is dropped: a thread that still waits
/// for a key does not live to clean up.
pub(crate) struct Prompt {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

/// What reads the lines.
pub(crate) struct Editor {
    editor: DefaultEditor,
    /// Until the first line is edited: nobody would draw what it is handed before.
    above: Option<Box<dyn ExternalPrinter + Send>>,
}

impl Prompt {
    /// `None` where nobody types, or where nothing can be drawn.
    pub(crate) fn open() -> Option<(Self, Editor)> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        // Pasted lines are lines like others.
        let config = Config::builder().bracketed_paste(false).auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config).ok()?;
        let above = editor.create_external_printer().ok()?;
        let prompt = Self {
            #[cfg(unix)]
            before: rustix::termios::tcgetattr(io::stdin()).ok()?,
        };
        Some((prompt, Editor { editor, above: Some(Box::new(above)) }))
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // The editor draws in its thread what it was handed, and does not say when.
        thread::sleep(Duration::from_millis(50));
        let mut above = ABOVE.lock().unwrap_or_else(PoisonError::into_inner);
        CLOSED.store(true, Relaxed);
        above.take();
        drop(above);
        #[cfg(unix)]
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.before);
        // What was typed and not sent is not part of what comes below.
        let _ = io::stdout().write_all(b"\r\x1b[K");
    }
}

impl Editor {
    /// The next line; none at the end of the input. Blocks.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        if let Some(above) = self.above.take() {
            let mut shared = ABOVE.lock().unwrap_or_else(PoisonError::into_inner);
            if !CLOSED.load(Relaxed) {
                *shared = Some(above);
            }
        }
        match self.editor.readline("> ") {
            Ok(line) => Ok(Some(line)),
            Err(ReadlineError::Eof) => Ok(None),
            Err(ReadlineError::Interrupted) => {
                // The key is no signal while a line is edited.
                #[cfg(unix)]
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT)?;
                // It is not the end of the input, by which a call would end well.
                loop {
                    thread::park();
                }
            }
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Writes lines to stdout, above the line that is edited, if there is one.
pub(crate) fn write_above(bytes: &[u8]) -> io::Result<usize> {
    match &mut *ABOVE.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(above) => above.print(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?,
        None => return io::stdout().write(bytes),
    }
    Ok(bytes.len())
}
