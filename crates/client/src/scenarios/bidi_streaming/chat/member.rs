//! A member of a room, across reconnects.

use std::collections::VecDeque;

use shared_proto::fourmodes::v1::{ChatResponse, chat_response::Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Report,
    call::{Since, call, join, post},
};
use crate::{failure::Failure, session::Session};

/// How many posts may wait for the server to accept them. Beyond that, standard input
/// is not read.
const UNACCEPTED: usize = 256;

pub(super) struct Member<'a> {
    report: &'a mut Report,
    since: Since,
    id: Uuid,
    /// `None` after the end of input.
    lines: Option<mpsc::Receiver<String>>,
    unaccepted: VecDeque<(Uuid, String)>,
}

impl<'a> Member<'a> {
    pub(super) fn new(report: &'a mut Report, since: Since, lines: mpsc::Receiver<String>) -> Self {
        Self { report, since, id: Uuid::new_v4(), lines: Some(lines), unaccepted: VecDeque::new() }
    }

    pub(super) async fn converse(&mut self, session: &Session) -> Result<(), Failure> {
        let join = join(&self.report.room, &self.report.name, self.id, self.since);
        let (posts, actions) = mpsc::channel(UNACCEPTED);
        // They fit: `unaccepted` is never longer than the channel's capacity.
        self.unaccepted.iter().for_each(|(id, text)| drop(posts.try_send(post(*id, text))));
        let mut posts = Some(posts);
        let mut responses = call(session, session.channel(), join, ReceiverStream::new(actions)).await?;
        loop {
            if self.lines.is_none() && self.unaccepted.is_empty() {
                // Half-closes: nothing is left to send.
                posts = None;
            }
            let room = self.unaccepted.len() < UNACCEPTED;
            tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => {
                        session.progressed();
                        self.hear(response, session)?;
                    }
                    None => return Ok(()),
                },
                line = next(&mut self.lines), if room => match line {
                    Some(text) => {
                        let id = Uuid::now_v7();
                        // Fails when the call is over; the response then says why.
                        posts.as_ref().map(|posts| posts.try_send(post(id, &text)));
                        self.unaccepted.push_back((id, text));
                        self.report.unaccepted += 1;
                    }
                    None => self.lines = None,
                },
            }
        }
    }

    fn hear(&mut self, response: ChatResponse, session: &Session) -> Result<(), Failure> {
        match response.response {
            Some(Response::Event(event)) => self.report.hear(&event, session),
            Some(Response::StillThere(_)) => {}
            Some(Response::Accepted(accepted)) => {
                let first = self.unaccepted.pop_front();
                if first.is_none_or(|(id, _)| id.to_string() != accepted.message_id) {
                    return Err(Failure::answer("the server accepted a post that was not sent"));
                }
                self.report.posted += 1;
                self.report.unaccepted -= 1;
            }
            None => return Err(Failure::answer("a response without an event")),
        }
        if self.report.heard > 0 {
            self.since = Since::After(self.report.last_sequence);
        }
        Ok(())
    }
}

/// Waits for ever once the input has ended.
async fn next(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}
