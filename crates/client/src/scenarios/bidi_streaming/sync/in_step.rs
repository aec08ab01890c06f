//! The file and the document, across reconnects.

use std::time::Instant;

use shared_document::{Document, Head, NoDocument};
use tokio::{task::block_in_place, time::MissedTickBehavior};

use super::{
    Report,
    replica::Replica,
    working_copy::{LOOK, Look, WorkingCopy},
};
use crate::{failure::Failure, session::Session};

pub(super) struct InStep<'a> {
    copy: WorkingCopy,
    replica: Replica,
    once: bool,
    report: &'a mut Report,
}

impl<'a> InStep<'a> {
    /// Starts from what is known of the document.
    pub(super) fn new(
        (copy, document, durable): (WorkingCopy, Document, Vec<Head>),
        once: bool,
        report: &'a mut Report,
    ) -> Self {
        Self { copy, replica: Replica::new(document, durable), once, report }
    }

    pub(super) async fn keep(&mut self, session: &Session) -> Result<(), Failure> {
        self.report.in_step = false;
        let mut call = self.replica.open(session, session.channel(), &self.report.document).await?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = self.replica.hear(&mut call) => {
                    heard?;
                    session.progressed();
                }
                _ = looks.tick() => {}
            }
            if !self.replica.is_complete() {
                continue;
            }
            let settled = block_in_place(|| self.reconcile(session))?;
            // A pending edit may make room for the edits that the server would refuse.
            if settled || self.report.not_synced.is_some() {
                self.replica.send(&call);
            }
            self.tell(settled)?;
            if self.once && self.report.in_step {
                return call.end().await;
            }
        }
    }

    /// Takes the user's edits and writes the changes of others. Returns whether the
    /// file equals the document.
    fn reconcile(&mut self, session: &Session) -> Result<bool, Failure> {
        let (document, now) = (&mut self.replica.document, Instant::now());
        if self.copy.take_late(document, now).map_err(|error| damaged(&error))? {
            self.copy.save(document, &self.replica.durable)?;
        }
        let look = self.copy.look(now);
        if !matches!(look, Look::Unsettled | Look::Bad(_)) {
            self.report.not_synced = None;
        }
        match look {
            Look::Unsettled => return Ok(false),
            Look::Bad(reason) if self.once => return Err(Failure::input(self.copy.path(), reason)),
            Look::Bad(reason) => {
                if self.report.not_synced.as_ref() != Some(&reason) {
                    tracing::warn!(
                        "{} is not synced: {reason}; the document keeps the last text, and syncing continues \
                         when the file is text again",
                        self.copy.path().display()
                    );
                }
                self.report.not_synced = Some(reason);
                return Ok(false);
            }
            Look::Gone => {
                let reason = "it was deleted; the document keeps its text, and repeating the command writes the file again";
                self.copy.forget(document, &self.replica.durable)?;
                return Err(Failure::input(self.copy.path(), reason));
            }
            Look::Same => {}
            Look::Edited(text) => {
                let both = self.copy.is_foreign() && !text.is_empty() && !document.is_empty();
                self.copy.take(document, text).map_err(|error| damaged(&error))?;
                if both && self.copy.has() != document.heads() {
                    session.note(
                        "The file and the document have no common history: the client appends one text to \
                         the other.",
                    );
                }
                self.copy.save(document, &self.replica.durable)?;
            }
        }
        let heads = document.heads();
        if !self.copy.is_at(&heads) {
            let text = document.text().map_err(|error| damaged(&error))?;
            return self.copy.write(text, heads, document, &self.replica.durable);
        }
        Ok(true)
    }

    fn tell(&mut self, settled: bool) -> Result<(), Failure> {
        let was = self.report.in_step;
        self.report.bytes = self.replica.document.len();
        self.report.heads = self.replica.document.heads().iter().map(ToString::to_string).collect();
        (self.report.edits_sent, self.report.edits_received) = (self.replica.sent, self.replica.received);
        self.report.in_step = settled && self.replica.is_durable();
        if self.report.in_step && !was {
            // The saved heads spare sending the server what it already has.
            block_in_place(|| self.copy.save(&self.replica.document, &self.replica.durable))?;
        }
        Ok(())
    }
}

fn damaged(error: &NoDocument) -> Failure {
    Failure::answer(error.to_string())
}
