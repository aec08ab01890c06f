//! From what was seen to the renderers.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use grpc_wire::{http2_error, mode_of};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use page::Page;
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};
use timeline::{Kind, Mermaid, Message, Outcome, Renderer, Side, words::counted};
use tonic::{Code, Status};

use crate::{
    Event, Fields, Filter, Pools, Recorder, Seen, call::reset_reason, filter::takes_path, queue::Events,
};

/// How often the renderers are told that time goes by.
const TICK: Duration = Duration::from_millis(50);
/// How much is held of a call until it is known whether it is shown, in bytes, and of
/// all calls.
const HELD: usize = 1 << 20;
const HELD_IN_ALL: usize = 32 << 20;

/// Draws what was seen.
pub struct Drawing {
    canvas: Canvas,
    pools: Pools,
    filter: Filter,
    diagram_dir: Option<PathBuf>,
    recorder: Option<Recorder>,
    counts: Counts,
    open: HashMap<u64, Call>,
    /// Of all open calls together, in bytes.
    held: usize,
}

/// Where events are drawn.
struct Canvas {
    server: Uri,
    renderer: Box<dyn Renderer>,
    page: Option<Arc<Page>>,
}

/// What was seen so far.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    connections: u64,
    calls: u64,
    messages: u64,
    /// Events that there was no room for.
    unseen: u64,
}

#[derive(Debug)]
struct Call {
    path: String,
    method: Option<MethodDescriptor>,
    /// By side, how its messages are compressed.
    encodings: [Option<String>; 2],
    begun: Duration,
    /// Whether it is of a service and a method that are drawn.
    is_wanted: bool,
    /// Whether it is drawn as it goes on.
    is_live: bool,
    held: Vec<Event>,
    size: usize,
    /// Events that there was no room for.
    left_out: u64,
}

impl std::fmt::Debug for Drawing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drawing").field("server", &self.canvas.server).finish_non_exhaustive()
    }
}

impl Drawing {
    /// Draws the calls that `filter` takes. `page` shows the same. `pools` say what the
    /// messages are. With `diagram_dir` each call gets a file there, with its diagram.
    /// `recorder` keeps all of it.
    pub fn new(
        server: Uri,
        renderer: Box<dyn Renderer>,
        page: Option<Arc<Page>>,
        pools: Pools,
        filter: Filter,
        diagram_dir: Option<PathBuf>,
        recorder: Option<Recorder>,
    ) -> Self {
        let canvas = Canvas { server, renderer, page };
        let (counts, open) = (Counts::default(), HashMap::new());
        Self { canvas, pools, filter, diagram_dir, recorder, counts, open, held: 0 }
    }

    /// Draws until nothing more can come. Blocks.
    ///
    /// # Errors
    ///
    /// When something cannot be written.
    pub fn follow(&mut self, events: &Events, begun: std::time::Instant) -> io::Result<()> {
        loop {
            match events.next(TICK) {
                Ok(events) => events.into_iter().flatten().try_for_each(|event| self.event(event))?,
                Err(RecvTimeoutError::Timeout) => self.idle(begun.elapsed())?,
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    /// Time has gone by.
    fn idle(&mut self, now: Duration) -> io::Result<()> {
        self.record(Recorder::flush)?;
        let late = |call: &Call| !call.is_live && self.filter.takes_time(now.saturating_sub(call.begun));
        if self.filter.is_live() && self.filter.slower_than.is_some() {
            let late: Vec<_> =
                self.open.iter().filter(|(_, call)| late(call)).map(|(number, _)| *number).collect();
            late.into_iter().try_for_each(|number| self.go_live(number))?;
        }
        self.canvas.renderer.idle(now)
    }

    /// A recording that cannot be written ends, and says so. The calls go on.
    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> io::Result<()>) -> io::Result<()> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        let Err(error) = write(recorder) else { return Ok(()) };
        self.recorder = None;
        let text = format!("the recording ends here: it cannot be written: {error}");
        let note = Event { at_us: 0, connection: 0, call: 0, seen: Seen::Note { text } };
        self.canvas.draw(None, &note)
    }

    /// Draws one event, or keeps it until it is known whether its call is drawn.
    ///
    /// # Errors
    ///
    /// When something cannot be written.
    pub fn event(&mut self, event: Event) -> io::Result<()> {
        if let Seen::Window { from, left } = event.seen {
            let is_live = self.open.get(&event.call).is_some_and(|call| call.is_live);
            if let Some(page) = self.canvas.page.as_ref().filter(|_| is_live) {
                let at_ms = event.at_us as f64 / 1e3;
                page.event(
                    event.call,
                    || json!({ "type": "window", "at_ms": at_ms, "from": from, "left": left }),
                );
            }
            return Ok(());
        }
        self.record(|recorder| recorder.write(&event))?;
        match &event.seen {
            Seen::Connected { .. } => self.counts.connections += 1,
            Seen::Message { .. } => self.counts.messages += 1,
            Seen::Unseen { events } => self.counts.unseen += events,
            Seen::Request { path, headers, .. } => {
                self.counts.calls += 1;
                let call = self.begin(path.clone(), headers, Duration::from_micros(event.at_us));
                self.open.insert(event.call, call);
            }
            _ => {}
        }
        if event.call == 0 {
            // Of a connection, which is nobody's call.
            return match &event.seen {
                Seen::Connected { .. } | Seen::Frame { .. } if !self.filter.is_empty() => Ok(()),
                _ => self.canvas.draw(None, &event),
            };
        }
        let (number, is_end) = (event.call, event.seen.is_end());
        let Some(call) = self.open.get_mut(&number) else {
            // It has ended, or it is one that there was no room for.
            return match self.filter.is_empty() {
                true => self.canvas.draw(None, &event),
                false => Ok(()),
            };
        };
        if let Seen::Response { headers, .. } = &event.seen {
            call.encodings[Side::Server as usize] = encoding(headers);
        }
        if call.is_live {
            self.canvas.draw(Some(call), &event)?;
        }
        if call.is_wanted && (!call.is_live || self.diagram_dir.is_some()) {
            let size = event.seen.size();
            if is_end || call.size + size <= HELD && self.held + size <= HELD_IN_ALL {
                call.size += size;
                self.held += size;
                call.held.push(event);
            } else {
                call.left_out += 1;
            }
        }
        if is_end { self.ended(number) } else { Ok(()) }
    }

    fn begin(&self, path: String, headers: &Fields, begun: Duration) -> Call {
        let method = self.pools.method(&path);
        let is_wanted = takes_path(&self.filter.only, &path);
        let is_live = is_wanted && self.filter.is_live() && self.filter.slower_than.is_none();
        let encodings = [encoding(headers), None];
        Call { path, method, encodings, begun, is_wanted, is_live, held: Vec::new(), size: 0, left_out: 0 }
    }

    /// Draws what was held of a call, and goes on with it as it comes.
    fn go_live(&mut self, number: u64) -> io::Result<()> {
        let Some(call) = self.open.get_mut(&number) else { return Ok(()) };
        if !call.is_wanted {
            return Ok(());
        }
        call.is_live = true;
        let held =
            if self.diagram_dir.is_some() { call.held.clone() } else { std::mem::take(&mut call.held) };
        self.canvas.draw_held(number, call, &held)
    }

    fn ended(&mut self, number: u64) -> io::Result<()> {
        let Some(mut call) = self.open.remove(&number) else { return Ok(()) };
        self.held -= call.size;
        let Some(end) = call.held.last() else { return Ok(()) };
        let time = Duration::from_micros(end.at_us).saturating_sub(call.begun);
        if !self.filter.takes_status(code(&end.seen)) || !self.filter.takes_time(time) {
            return Ok(());
        }
        let held = std::mem::take(&mut call.held);
        if !call.is_live {
            self.canvas.draw_held(number, &call, &held)?;
        }
        let Some(directory) = &self.diagram_dir else { return Ok(()) };
        let file = File::create(directory.join(file_name(number, &call.path)))?;
        let renderer = Box::new(Mermaid::new(io::BufWriter::new(file)));
        let mut file = Canvas { server: self.canvas.server.clone(), renderer, page: None };
        file.draw_held(number, &call, &held)?;
        file.renderer.outcome(&outcome(Value::Null, String::new()))
    }

    /// Nothing more comes.
    ///
    /// # Errors
    ///
    /// When something cannot be written.
    pub fn end(&mut self) -> io::Result<()> {
        let Counts { connections, calls, messages, unseen } = self.counts;
        self.record(Recorder::flush)?;
        let open = self.open.len();
        let value = json!({
            "connections": connections,
            "calls": calls,
            "open": open,
            "messages": messages,
            "unseen": unseen,
        });
        let mut text = format!(
            "{} with {} on {}",
            counted(calls, "call"),
            counted(messages, "message"),
            counted(connections, "connection")
        );
        if open > 0 {
            text.push_str(&format!("; {open} not over"));
        }
        if unseen > 0 {
            text.push_str(&format!("; {} not shown, for lack of time", counted(unseen, "event")));
        }
        self.canvas.renderer.outcome(&outcome(value, text))
    }
}

fn outcome(value: Value, text: String) -> Outcome {
    Outcome { mode: "all", scenario: "watch", value, text, failed: None }
}

/// A name that is one on every platform.
fn file_name(number: u64, path: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let path: String = path.trim_start_matches('/').chars().take(100).map(safe).collect();
    format!("{number:04}-{path}.mmd")
}

impl Canvas {
    /// What was held of a call, and how much could not be.
    fn draw_held(&mut self, number: u64, call: &Call, held: &[Event]) -> io::Result<()> {
        held.iter().try_for_each(|event| self.draw(Some(call), event))?;
        if call.left_out == 0 {
            return Ok(());
        }
        let text =
            format!("call {number}: {} more were too many to be held", counted(call.left_out, "event"));
        self.renderer.event(&timeline::Event { at: call.begun, client: "client", kind: Kind::Note(&text) })
    }

    fn draw(&mut self, call: Option<&Call>, event: &Event) -> io::Result<()> {
        let Self { server, renderer, page } = self;
        let name = match event.call {
            0 => format!("connection {}", event.connection),
            call => format!("call {call}"),
        };
        let method = call.and_then(|call| call.method.as_ref());
        let mut show = |kind: Kind<'_>| {
            let drawn = timeline::Event { at: Duration::from_micros(event.at_us), client: &name, kind };
            // On the page, what belongs to no call is in words.
            let page = page.as_ref().filter(|_| event.call > 0 || matches!(drawn.kind, Kind::Note(_)));
            if let Some(page) = page {
                page.event(event.call, || {
                    let mut json = drawn.json();
                    if let (Kind::Request { .. }, Some(method)) = (&drawn.kind, method) {
                        json["mode"] = mode_of(method).name().into();
                    }
                    json
                });
            }
            renderer.event(&drawn)
        };
        match &event.seen {
            Seen::Connected { .. } => show(Kind::Connected { server }),
            Seen::Request { path, headers, .. } => show(Kind::Request {
                path: &timeline::words::printable(path),
                metadata: &metadata(headers),
                server: None,
            }),
            Seen::Response { status, headers } => {
                let http = StatusCode::from_u16(*status).unwrap_or_default();
                show(Kind::Response { http, metadata: &metadata(headers) })
            }
            Seen::Message { from, number, length, compressed, bytes } => {
                let (from, number) = (*from, *number);
                if bytes.len() as u64 != *length {
                    let text = format!("{number}  {}, too long to show", counted(*length, "byte"));
                    return show(Kind::Sent { from, what: "message", text: &text });
                }
                let encoding = call.and_then(|call| call.encodings[from as usize].as_deref());
                let encoding = compressed.then(|| encoding.unwrap_or_default());
                let descriptor = method.map(|method| match from {
                    Side::Client => method.input(),
                    Side::Server => method.output(),
                });
                let message = Message { bytes, encoding, descriptor: descriptor.as_ref() };
                show(Kind::Message { from, number, message })
            }
            Seen::Body { from, length, .. } => {
                show(Kind::Sent { from: *from, what: "body", text: &counted(*length, "byte") })
            }
            Seen::HalfClose => show(Kind::HalfClose),
            Seen::Trailers { only, headers } => {
                let metadata = metadata(headers);
                let status = Status::from_header_map(&metadata);
                let status = status.unwrap_or_else(|| Status::unknown("the trailers have no status"));
                show(Kind::Trailers { status: &status, only: *only, metadata: &metadata })
            }
            Seen::Reset { from: Side::Client, code } if http2_error(*code) == "CANCEL" => show(Kind::Cancel),
            Seen::Reset { from, code } => show(Kind::Broken { reason: &reset_reason(*from, *code) }),
            Seen::Broken { reason } => show(Kind::Broken { reason }),
            Seen::Frame { from, text } => show(Kind::Sent { from: *from, what: "frame", text }),
            Seen::Note { text } if event.call == 0 && event.connection == 0 => show(Kind::Note(text)),
            Seen::Note { text } => show(Kind::Note(&format!("{name}: {text}"))),
            // For the page alone.
            Seen::Window { .. } => Ok(()),
            Seen::Unseen { events } => {
                let text = format!("{} not shown: too many at once", counted(*events, "event"));
                show(Kind::Note(&text))
            }
        }
    }
}

/// What a call ended with, or what a client would make of it.
pub(crate) fn code(end: &Seen) -> Code {
    match end {
        Seen::Trailers { headers, .. } => {
            Status::from_header_map(&metadata(headers)).map_or(Code::Unknown, |status| status.code())
        }
        Seen::Reset { from: Side::Client, .. } => Code::Cancelled,
        Seen::Reset { code, .. } => match http2_error(*code).as_str() {
            "REFUSED_STREAM" => Code::Unavailable,
            "CANCEL" => Code::Cancelled,
            "ENHANCE_YOUR_CALM" => Code::ResourceExhausted,
            "INADEQUATE_SECURITY" => Code::PermissionDenied,
            _ => Code::Internal,
        },
        _ => Code::Unavailable,
    }
}

fn encoding(headers: &Fields) -> Option<String> {
    headers.iter().find(|(name, _)| name == "grpc-encoding").map(|(_, value)| value.clone())
}

pub(crate) fn metadata(fields: &Fields) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in fields {
        // What HTTP does not allow was no use to anybody.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            metadata.append(name, value);
        }
    }
    metadata
}
