//! What happened on the calls of a run, in order, and who gets to see it.
//!
//! Events come from the [`tap`] on the channel, that is, from the frames that
//! really passed, and go to the renderers at once.

mod diagram;
mod fold;
#[cfg(feature = "fuzzing")]
mod fuzzed;
mod json;
mod mermaid;
mod message;
#[cfg(test)]
mod sample;
pub(crate) mod tap;
mod text;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode, Uri};
use indicatif::ProgressBar;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::Status;

#[cfg(feature = "fuzzing")]
pub use self::fuzzed::timeline;
use self::message::Message;
pub use self::{diagram::Diagram, tap::Tap};
use crate::{
    cli::Output,
    config::Config,
    failure::{Failure, Stage},
};

/// One side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    /// Since the run began.
    pub(crate) at: Duration,
    /// The client it happened to: "client", or a name where there are several.
    pub(crate) client: &'a str,
    pub(crate) kind: Kind<'a>,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    /// The connection is there.
    Connected { server: &'a Uri },
    /// A call begins, where there are several servers at one of them.
    Request { path: &'a str, metadata: &'a HeaderMap, server: Option<&'a Uri> },
    /// A call is answered: the HTTP status is not the call's.
    Response { http: StatusCode, metadata: &'a HeaderMap },
    /// The `number`th message of its side of the call.
    Message { from: Side, number: u64, message: Message<'a> },
    /// The client will send no more.
    HalfClose,
    /// The end, as the server put it.
    /// With `only`, there was nothing else in the answer.
    Trailers { status: &'a Status, only: bool, metadata: &'a HeaderMap },
    /// The client gave up.
    Cancel,
    /// The end without a status.
    Broken { reason: &'a str },
    /// The connection was lost; the client tries again after a pause.
    Reconnect { attempt: u32, after: Duration, reason: &'a str },
    /// One of several servers failed, and is left out for a while.
    Ejected { server: &'a Uri, time: Duration, reason: &'a str },
    /// A word of explanation.
    Note(&'a str),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) mode: &'static str,
    pub(crate) scenario: &'static str,
    /// What the scenario found out, also when it did not get to its end.
    pub(crate) value: Value,
    /// The same for people.
    pub(crate) text: String,
    pub(crate) failure: Option<Failure>,
}

/// Draws events in one format.
trait Renderer: Send {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()>;
    /// A line of what the user asked for, where that is more than a result at
    /// the end.
    fn line(&mut self, _at: Duration, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// What one side says that it does, where that is to be heard.
    fn aside(&mut self, _at: Duration, _by: Side, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// Nothing has happened for a moment.
    fn idle(&mut self, _now: Duration) -> io::Result<()> {
        Ok(())
    }
    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()>;
}

/// A handle to the timeline of a run.
#[derive(Clone)]
pub(crate) struct Timeline {
    shared: Arc<Shared>,
}

struct Shared {
    begun: Instant,
    /// Whether events are drawn at all, or only the outcome.
    drawn: bool,
    /// Whether calls that begin now are left out.
    hushed: AtomicBool,
    /// What the messages of a call are.
    pool: DescriptorPool,
    progress: ProgressBar,
    /// How far the run got.
    connected: AtomicBool,
    called: AtomicBool,
    answered: AtomicBool,
    /// Cancelled when a renderer cannot write any more.
    broken: CancellationToken,
    inner: Mutex<Inner>,
}

struct Inner {
    renderers: Vec<Box<dyn Renderer>>,
    /// Nothing comes after the outcome, although a call may still be winding up.
    finished: bool,
    failure: Option<Failure>,
}

impl Timeline {
    /// # Errors
    ///
    /// When the file for the diagram cannot be created.
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        let progress = ProgressBar::hidden();
        let stdout = AboveProgress { out: io::stdout(), progress: progress.clone() };
        let mut renderers: Vec<Box<dyn Renderer>> = vec![match config.output {
            Output::Text => Box::new(text::Text::to_stdout(stdout, config.quiet)),
            Output::Json | Output::Junit => Box::new(json::Json::new(stdout, config.quiet)),
        }];
        if let Some(path) = &config.diagram {
            let file = std::fs::File::create(path)
                .map_err(|error| Failure::output(&format!("the diagram {}", path.display()), &error))?;
            renderers.push(Box::new(mermaid::Mermaid::new(file)));
        }
        let drawn = !config.quiet || config.diagram.is_some();
        // Takes some milliseconds, which would otherwise be the first call's.
        let pool = if drawn { shared_proto::POOL.clone() } else { DescriptorPool::new() };
        Ok(Self::with(renderers, drawn, pool, progress))
    }

    fn with(
        renderers: Vec<Box<dyn Renderer>>,
        drawn: bool,
        pool: DescriptorPool,
        progress: ProgressBar,
    ) -> Self {
        let timeline = Self {
            shared: Arc::new(Shared {
                begun: Instant::now(),
                drawn,
                hushed: AtomicBool::new(false),
                pool,
                progress,
                connected: AtomicBool::new(false),
                called: AtomicBool::new(false),
                answered: AtomicBool::new(false),
                broken: CancellationToken::new(),
                inner: Mutex::new(Inner { renderers, finished: false, failure: None }),
            }),
        };
        if drawn {
            tokio::spawn(watch_for_pauses(Arc::downgrade(&timeline.shared)));
        }
        timeline
    }

    pub(crate) fn connected(&self, client: &str, server: &Uri) {
        self.shared.connected.store(true, Relaxed);
        self.record(client, Kind::Connected { server });
    }

    pub(crate) fn ejected(&self, server: &Uri, time: Duration, reason: &str) {
        self.record("client", Kind::Ejected { server, time, reason });
    }

    pub(crate) fn reconnecting(&self, attempt: u32, after: Duration, reason: &str) {
        self.record("client", Kind::Reconnect { attempt, after, reason });
    }

    pub(crate) fn note(&self, text: &str) {
        self.record("client", Kind::Note(text));
    }

    /// A line of what the user asked for, as it comes.
    pub(crate) fn line(&self, text: &str) {
        self.draw(|renderer, now| renderer.line(now, text));
    }

    /// Whether there is any use in looking at what passes.
    fn is_drawn(&self) -> bool {
        self.shared.drawn && !self.shared.hushed.load(Relaxed)
    }

    fn note_answer(&self) {
        self.shared.answered.store(true, Relaxed);
    }

    fn note_call(&self) {
        self.shared.called.store(true, Relaxed);
    }

    pub(crate) fn stage(&self) -> Stage {
        let [connected, called, answered] =
            [&self.shared.connected, &self.shared.called, &self.shared.answered]
                .map(|flag| flag.load(Relaxed));
        match (connected, called, answered) {
            (false, ..) => Stage::Connecting,
            (_, true, false) => Stage::Unanswered,
            _ => Stage::UnderWay,
        }
    }

    pub(crate) fn progress(&self) -> &ProgressBar {
        &self.shared.progress
    }

    /// Completes when nothing can be shown any more; [`failure`](Self::failure)
    /// tells why.
    pub(crate) async fn broken(&self) {
        self.shared.broken.cancelled().await;
    }

    /// Why nothing could be shown any more, if so.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.lock().failure.take()
    }

    pub(crate) fn finish(&self, outcome: &Outcome) {
        self.shared.progress.finish_and_clear();
        let mut inner = self.lock();
        inner.draw(&self.shared.broken, |renderer| renderer.outcome(outcome));
        inner.finished = true;
    }

    fn method(&self, path: &str) -> Option<MethodDescriptor> {
        shared_proto::method_in(&self.shared.pool, path)
    }

    fn record(&self, client: &str, kind: Kind<'_>) {
        if !self.shared.drawn {
            return;
        }
        let mut event = Event { at: Duration::ZERO, client, kind };
        self.draw(|renderer, now| {
            event.at = now;
            renderer.event(&event)
        });
    }

    fn draw(&self, mut draw: impl FnMut(&mut dyn Renderer, Duration) -> io::Result<()>) {
        let mut inner = self.lock();
        // Read here, where one passes at a time: the times in the output never
        // run backwards.
        let now = self.shared.begun.elapsed();
        inner.draw(&self.shared.broken, |renderer| draw(renderer, now));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The label of an answer: every gRPC answer has the HTTP status 200, so any
/// other one comes from something in between.
fn headers(http: StatusCode) -> String {
    match http {
        StatusCode::OK => "HEADERS".to_owned(),
        http => format!("HEADERS  HTTP {http}"),
    }
}

/// The label of an attempt to connect again.
fn reconnect(attempt: u32, after: Duration, reason: &str) -> String {
    format!("reconnect {attempt} in {} ms: {reason}", after.as_millis())
}

/// The label of a server that is left out.
fn ejected(server: &Uri, time: Duration, reason: &str) -> String {
    format!("{server} is left out for {} ms: {reason}", time.as_millis())
}

/// Which of several servers a call goes to.
fn at(server: Option<&Uri>) -> String {
    server.and_then(Uri::authority).map(|server| format!("  at {server}")).unwrap_or_default()
}

/// Tells the renderers that time goes by without events, until the run is over.
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
                self.failure.get_or_insert_with(|| Failure::unwritten(&error));
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

/// stdout, which may be on the terminal that the progress bar is drawn on.
struct AboveProgress {
    out: io::Stdout,
    progress: ProgressBar,
}

impl io::Write for AboveProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| self.out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
