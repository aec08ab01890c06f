//! Passes the events of a run to the renderers.

use std::{
    error::Error,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Uri;
use indicatif::ProgressBar;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Event, Kind, Outcome, Renderer, Side};

/// Says in a few words why a call broke; `None` if its deadline passed.
pub type Explain = fn(&(dyn Error + 'static)) -> Option<String>;

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There was no connection yet.
    Connecting,
    /// A call was made, and nothing arrived, not even headers.
    Unanswered,
    /// Something arrived.
    UnderWay,
}

/// A handle to the timeline of a run.
#[derive(Clone)]
pub struct Timeline {
    shared: Arc<Shared>,
}

struct Shared {
    begun: Instant,
    /// The descriptors of the messages; `None` if only the outcome is drawn.
    pool: Option<DescriptorPool>,
    explain: Explain,
    /// Whether calls that begin now are hidden.
    hushed: AtomicBool,
    progress: ProgressBar,
    /// How far the run got.
    connected: AtomicBool,
    called: AtomicBool,
    answered: AtomicBool,
    /// Cancelled when a renderer can no longer write.
    broken: CancellationToken,
    inner: Mutex<Inner>,
}

struct Inner {
    renderers: Vec<Box<dyn Renderer>>,
    /// Nothing is drawn after the outcome, even if a call is still ending.
    finished: bool,
    error: Option<io::Error>,
    /// Why the connection was lost, during the attempts to reconnect.
    lost: Option<String>,
}

impl Timeline {
    /// Begins now. `pool` describes the messages of a call; without it only the outcome
    /// is drawn. Renderers may write to the terminal on which `progress` is drawn. Call
    /// this within a runtime.
    pub fn new(
        renderers: Vec<Box<dyn Renderer>>,
        pool: Option<DescriptorPool>,
        explain: Explain,
        progress: ProgressBar,
    ) -> Self {
        let drawn = pool.is_some();
        let timeline = Self {
            shared: Arc::new(Shared {
                begun: Instant::now(),
                pool,
                explain,
                hushed: AtomicBool::new(false),
                progress,
                connected: AtomicBool::new(false),
                called: AtomicBool::new(false),
                answered: AtomicBool::new(false),
                broken: CancellationToken::new(),
                inner: Mutex::new(Inner { renderers, finished: false, error: None, lost: None }),
            }),
        };
        if drawn {
            tokio::spawn(watch_for_pauses(Arc::downgrade(&timeline.shared)));
        }
        timeline
    }

    /// A connection is established.
    pub fn connected(&self, client: &str, server: &Uri) {
        self.shared.connected.store(true, Relaxed);
        self.lock().lost = None;
        self.record(client, Kind::Connected { server });
    }

    /// A request or a response of a protocol that has only these, as text for people
    /// and as fields for programs.
    pub fn exchanged(&self, from: Side, failed: bool, text: &str, fields: &Value) {
        match from {
            Side::Client => self.note_call(),
            Side::Server => self.note_answer(),
        }
        self.record("client", Kind::Exchange { from, failed, text, fields });
    }

    /// One of several servers failed, and is left out for `time`.
    pub fn ejected(&self, server: &Uri, time: Duration, reason: &str) {
        self.record("client", Kind::Ejected { server, time, reason });
    }

    /// The connection was lost. The next attempt follows after the pause `after`.
    pub fn reconnecting(&self, attempt: u32, after: Duration, reason: &str) {
        self.lock().lost = Some(reason.to_owned());
        self.record("client", Kind::Reconnect { attempt, after, reason });
    }

    /// Why the connection was lost, if it has not been restored yet.
    pub fn lost(&self) -> Option<String> {
        self.lock().lost.clone()
    }

    /// A frame of HTTP/2 has passed on a connection of this client.
    pub fn frame(&self, client: &str, from: Side, text: &str) {
        if self.is_drawn() {
            self.record(client, Kind::Sent { from, what: "frame", text });
        }
    }

    /// An explanation.
    pub fn note(&self, text: &str) {
        self.record("client", Kind::Note(text));
    }

    /// A line of the output that the user asked for, as it arrives.
    pub fn line(&self, text: &str) {
        self.draw(|renderer, now| renderer.line(now, text));
    }

    /// Whether traffic has to be observed at all.
    pub(crate) fn is_drawn(&self) -> bool {
        self.shared.pool.is_some() && !self.shared.hushed.load(Relaxed)
    }

    pub(crate) fn note_answer(&self) {
        self.shared.answered.store(true, Relaxed);
    }

    pub(crate) fn note_call(&self) {
        self.shared.called.store(true, Relaxed);
    }

    /// How far the run got.
    pub fn stage(&self) -> Stage {
        let [connected, called, answered] =
            [&self.shared.connected, &self.shared.called, &self.shared.answered]
                .map(|flag| flag.load(Relaxed));
        match (connected, called, answered) {
            (false, ..) => Stage::Connecting,
            (_, true, false) => Stage::Unanswered,
            _ => Stage::UnderWay,
        }
    }

    /// A progress bar for long work.
    pub fn progress(&self) -> &ProgressBar {
        &self.shared.progress
    }

    /// Completes when nothing more can be shown; [`error`](Self::error) says why.
    pub async fn broken(&self) {
        self.shared.broken.cancelled().await;
    }

    /// Why nothing more could be shown, if that happened.
    pub fn error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    /// Draws the outcome, and nothing after it.
    pub fn finish(&self, outcome: &Outcome) {
        self.shared.progress.finish_and_clear();
        let mut inner = self.lock();
        inner.draw(&self.shared.broken, |renderer| renderer.outcome(outcome));
        inner.finished = true;
    }

    /// The method that a path such as `/package.Service/Method` names.
    pub(crate) fn method(&self, path: &str) -> Option<MethodDescriptor> {
        grpc_wire::method_in(self.shared.pool.as_ref()?, path)
    }

    /// Why a call broke; `None` if its deadline passed.
    pub(crate) fn explain(&self, error: &(dyn Error + 'static)) -> Option<String> {
        (self.shared.explain)(error)
    }

    /// Hides calls that begin from now on, or shows them again.
    pub(crate) fn hush(&self, hushed: bool) {
        self.shared.hushed.store(hushed, Relaxed);
    }

    pub(crate) fn record(&self, client: &str, kind: Kind<'_>) {
        if self.shared.pool.is_none() {
            return;
        }
        let mut event = Event { at: Duration::ZERO, client, kind };
        self.draw(|renderer, now| {
            event.at = now;
            renderer.event(&event)
        });
    }

    pub(crate) fn draw(&self, mut draw: impl FnMut(&mut dyn Renderer, Duration) -> io::Result<()>) {
        let mut inner = self.lock();
        // Read under the lock, so that the times in the output never run backwards.
        let now = self.shared.begun.elapsed();
        inner.draw(&self.shared.broken, |renderer| draw(renderer, now));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls the renderers during pauses between events, until the run is over.
async fn watch_for_pauses(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Some(shared) = shared.upgrade() else { return };
        Timeline { shared }.draw(|renderer, now| renderer.idle(now));
    }
}

impl Inner {
    fn draw(
        &mut self,
        broken: &CancellationToken,
        mut draw: impl FnMut(&mut dyn Renderer) -> io::Result<()>,
    ) {
        if self.finished {
            return;
        }
        for renderer in &mut self.renderers {
            if let Err(error) = draw(renderer.as_mut()) {
                self.error.get_or_insert(error);
                broken.cancel();
            }
        }
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").finish_non_exhaustive()
    }
}
