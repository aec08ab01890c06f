//! A conversation that survives the connection.
//!
//! What is posted is kept until the server has accepted it, and posted again
//! under the same id after a loss; what is heard goes on after the last event.

pub(crate) mod call;
mod member;
mod typed;

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use clap::Args;
use serde::Serialize;
use shared_proto::fourmodes::v1::{RoomEvent, room_event::Event};
use timeline::words::{counted, printable};

use self::{call::Since, member::Member, typed::typed_lines};
use crate::{failure::Failure, prompt::Prompt, scenario::Scenario, session::Session};

/// Join a chat room: each line of standard input is a post, its end leaves
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Name of the room; the first member opens it
    #[arg(long, allow_hyphen_values = true)]
    room: String,
    /// Your name, unique in the room
    #[arg(long, allow_hyphen_values = true)]
    name: String,
    /// Number of earlier events to show
    #[arg(long, default_value_t = 20, value_name = "N")]
    history: u64,
    /// Continue after the event with this number; 0 starts at the beginning
    #[arg(long, value_name = "N", conflicts_with = "history")]
    after_sequence: Option<u64>,
    /// Print lines such as `ben: hello` in place of the diagram
    #[arg(long)]
    plain: bool,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    room: String,
    name: String,
    /// Events of the room that were heard, the own ones too.
    heard: u64,
    /// Own posts that the server has accepted.
    posted: u64,
    /// Own posts that it may not have.
    unaccepted: u64,
    last_sequence: u64,
    /// Sequences that were left out.
    gaps: u64,
    /// Sequences that came again.
    duplicates: u64,
    /// Whether what is said is told.
    #[serde(skip)]
    plain: bool,
}

impl Scenario for Chat {
    type Report = Report;

    fn is_plain(&self) -> bool {
        self.plain
    }

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        (report.room, report.name, report.plain) = (self.room.clone(), self.name.clone(), self.plain);
        if io::stdin().is_terminal() {
            session.note("Each line that you type is a post; Ctrl-D leaves the room.");
        }
        let since = self.after_sequence.map_or(Since::History(self.history), Since::After);
        let (_prompt, editor) = Prompt::open().unzip();
        let mut member = Member::new(report, since, typed_lines(editor));
        session.resuming(async || member.converse(session).await).await
    }
}

impl Report {
    fn hear(&mut self, event: &RoomEvent, session: &Session) {
        if event.sequence <= self.last_sequence {
            self.duplicates += 1;
            return;
        }
        if self.heard > 0 {
            self.gaps += event.sequence - self.last_sequence - 1;
        }
        self.last_sequence = event.sequence;
        self.heard += 1;
        if let Some(line) = said(event).filter(|_| self.plain) {
            session.line(&line);
        }
    }
}

/// An event in words.
fn said(event: &RoomEvent) -> Option<String> {
    let name = &event.name;
    Some(match event.event.as_ref()? {
        Event::Joined(_) => format!("* {name} joined"),
        Event::Left(_) => format!("* {name} left"),
        Event::Posted(posted) => format!("{name}: {}", posted.text),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heard == 0 {
            return Ok(());
        }
        let (posted, heard) = (counted(self.posted, "post"), counted(self.heard, "event"));
        write!(f, "{} in {}: {posted}, {heard} heard", printable(&self.name), printable(&self.room))?;
        write!(f, ", {}, {}", counted(self.gaps, "gap"), counted(self.duplicates, "duplicate"))?;
        match self.unaccepted {
            0 => Ok(()),
            unaccepted => write!(f, "\n{} not accepted", counted(unaccepted, "post")),
        }
    }
}
