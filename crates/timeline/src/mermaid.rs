//! A Mermaid `sequenceDiagram` of what happened, which GitHub and many editors
//! draw.

use std::io::{self, Write};

use grpc_wire::code_name;

use crate::{
    Event, Kind, Outcome, Renderer, Side,
    event::{at, ejected, headers, reconnect, sent},
    fold::{Fold, Held},
    words::{counted, printable, wrapped},
};

/// In characters; a diagram with longer labels is too wide to read.
const LABEL: usize = 80;

/// Writes events as a sequence diagram.
#[derive(Debug)]
pub struct Mermaid<W> {
    out: W,
    fold: Fold,
    begun: bool,
    /// Whether the last thing on the diagram says what went wrong.
    told: bool,
}

impl<W: Write> Mermaid<W> {
    /// Nothing is written before the first event.
    pub fn new(out: W) -> Self {
        Self { out, fold: Fold::new(false), begun: false, told: false }
    }

    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            writeln!(self.out, "sequenceDiagram")?;
        }
        Ok(())
    }

    fn folded(&mut self, folded: u64) -> io::Result<()> {
        if folded > 0 {
            writeln!(self.out, "    Note over server: … {} …", counted(folded, "more message"))?;
        }
        Ok(())
    }

    fn arrow(&mut self, event: &Event<'_>) -> io::Result<()> {
        let client = participant(event.client);
        let (from, arrow, to, label) = match &event.kind {
            Kind::Connected { server } => (&client[..], "->>", "server", format!("connect {server}")),
            Kind::Request { path, server, .. } => {
                (&client[..], "->>", "server", format!("HEADERS {path}{}", at(*server)))
            }
            Kind::Response { http, .. } => ("server", "-->>", &client[..], headers(*http)),
            Kind::Message { from: Side::Client, number, message } => {
                (&client[..], "->>", "server", format!("message {number}  {}", message.text()))
            }
            Kind::Message { from: Side::Server, number, message } => {
                ("server", "-->>", &client[..], format!("message {number}  {}", message.text()))
            }
            Kind::Exchange { from: Side::Client, text, .. } => {
                (&client[..], "->>", "server", (*text).to_owned())
            }
            Kind::Exchange { failed, text, .. } => {
                self.told = *failed;
                ("server", if *failed { "--x" } else { "-->>" }, &client[..], (*text).to_owned())
            }
            Kind::Sent { from: Side::Client, what, text } => (&client[..], "->>", "server", sent(what, text)),
            Kind::Sent { from: Side::Server, what, text } => {
                ("server", "-->>", &client[..], sent(what, text))
            }
            Kind::HalfClose => (&client[..], "-)", "server", "half-close".to_owned()),
            Kind::Trailers { status, only, .. } => {
                self.told = status.code() != tonic::Code::Ok;
                let trailers = if *only { "trailers only" } else { "trailers" };
                let label = format!("{trailers} {} {}", code_name(status.code()), status.message());
                ("server", if status.code() == tonic::Code::Ok { "-->>" } else { "--x" }, &client[..], label)
            }
            Kind::Cancel => (&client[..], "-x", "server", "cancel".to_owned()),
            Kind::Broken { reason } => ("server", "--x", &client[..], format!("broken: {reason}")),
            Kind::Reconnect { attempt, after, reason } => {
                let label = reconnect(*attempt, *after, reason);
                return writeln!(self.out, "    Note over {client}: {}", escaped(&label, LABEL));
            }
            Kind::Ejected { server, time, reason } => {
                let label = ejected(server, *time, reason);
                return writeln!(self.out, "    Note over {client}: {}", escaped(&label, LABEL));
            }
            Kind::Note(text) => {
                let lines = wrapped(text, LABEL);
                let lines: Vec<_> = lines.iter().map(|line| escaped(line, usize::MAX)).collect();
                return writeln!(self.out, "    Note over {client},server: {}", lines.join("<br/>"));
            }
        };
        writeln!(self.out, "    {from}{arrow}{to}: {}", escaped(label.trim_end(), LABEL))
    }
}

impl<W: Write + Send> Renderer for Mermaid<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.begin()?;
        let Some(held) = self.fold.pass(event) else { return Ok(()) };
        self.catch_up(held)?;
        self.arrow(event)
    }

    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.begin()?;
        let held = self.fold.end();
        self.catch_up(held)?;
        if let Some(failed) = &outcome.failed
            && !self.told
        {
            let text = format!("{} {}", failed.code, failed.message);
            writeln!(self.out, "    Note over server: {}", escaped(&text, LABEL))?;
        }
        self.out.flush()
    }
}

impl<W: Write> Mermaid<W> {
    fn catch_up(&mut self, (folded, held): (u64, Vec<Held>)) -> io::Result<()> {
        self.folded(folded)?;
        held.iter().try_for_each(|held| self.arrow(&held.event()))
    }
}

/// Names that the diagram's language would read as something else are not among
/// ours, but a space would end the name.
fn participant(client: &str) -> String {
    client.replace(|c: char| !c.is_alphanumeric(), "_")
}

/// These mean something to Mermaid (`%%` begins a directive, `$$` a formula) or
/// to what draws it.
fn escaped(text: &str, longest: usize) -> String {
    let mut label = String::new();
    for (n, c) in printable(text).chars().enumerate() {
        if n == longest {
            label.push('…');
            break;
        }
        match c {
            '#' | ';' | '%' | '$' | '<' | '>' => {
                label.push('#');
                label.push_str(&u32::from(c).to_string());
                label.push(';');
            }
            c => label.push(c),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_happen() {
        let drawn = crate::sample::drawn(Mermaid::new(Vec::new())).unwrap();
        insta::assert_snapshot!(String::from_utf8(drawn.out).unwrap());
    }
}
