//! What a scenario has at hand: the channel, the timeline and the time left.

use std::time::Instant;

use indicatif::ProgressBar;
use tonic::{Request, transport::Channel};

use crate::{
    config::{Config, UNARY_DEADLINE},
    connect::connect,
    failure::Failure,
    timeline::{Timeline, tap::Tap},
};

pub(crate) struct Session {
    channel: Channel,
    timeline: Timeline,
    deadline: Option<Instant>,
}

impl Session {
    pub(crate) async fn open(config: &Config, timeline: &Timeline) -> Result<Self, Failure> {
        let deadline = config.deadline.map(|deadline| Instant::now() + deadline);
        let channel = connect(&config.server).await?;
        timeline.connected(&config.server);
        Ok(Self { channel, timeline: timeline.clone(), deadline })
    }

    /// The channel, for the generated clients. What passes is shown.
    pub(crate) fn channel(&self) -> Tap {
        self.channel_of("client")
    }

    /// Likewise for a demonstration with several clients, under a name.
    pub(crate) fn channel_of(&self, client: &str) -> Tap {
        Tap::new(self.channel.clone(), self.timeline.clone(), client)
    }

    /// Tells the server how much time is left: it stops working when nobody
    /// waits any more.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request
    }

    /// A unary call always has a deadline.
    pub(crate) fn unary_request<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        if self.deadline.is_none() {
            request.set_timeout(UNARY_DEADLINE);
        }
        request
    }

    /// Explains what comes next.
    pub(crate) fn note(&self, text: &str) {
        self.timeline.note(text);
    }

    /// A bar for long work, drawn on stderr when that is a terminal.
    pub(crate) fn progress(&self) -> &ProgressBar {
        self.timeline.progress()
    }
}
