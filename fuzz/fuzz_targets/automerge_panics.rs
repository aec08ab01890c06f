//! automerge panics on some changes, which is caught and answered. Any other panic
//! ends the run.

use std::{panic, process};

pub fn allow() {
    panic::set_hook(Box::new(|panic| {
        let from = panic.location().map_or("", |location| location.file());
        if !["/automerge-", "/hexane-"].iter().any(|name| from.contains(name)) {
            eprintln!("{panic}");
            process::abort();
        }
    }));
}
