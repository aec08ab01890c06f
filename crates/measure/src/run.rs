//! Measures one pattern after the other.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal as _},
    sync::Arc,
    time::{Duration, Instant},
};

use grpc_wire::code_name;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use timeline::Failed;
use tonic::Code;
use transport::{CallError, Traffic};

use crate::{
    Amount, Output, Pattern, Request, drive,
    job::Job,
    line::Line,
    load::Load,
    pattern::{self, Goal, TimeOf},
    recommend, render,
    renderer::{Renderer, Summary},
    report::{Figures, Measured},
    server::{Server, ServerCpu},
    threads::Threads,
    times::{Sending, Times, median},
    work::{Error, Work},
};

/// Steps of the progress of one way.
const STEPS: u64 = 1000;

/// A run of the measurements.
pub struct Run {
    request: Request,
    renderer: Box<dyn Renderer>,
    progress: ProgressBar,
    begun: Instant,
    measured: Vec<Measured>,
    /// What is being measured.
    during: Option<(Goal, Pattern)>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Run {
    /// Begins now, and shows itself on stdout.
    pub fn new(request: Request, output: Output) -> Self {
        Self {
            renderer: render::for_output(output, &request),
            progress: if output == (Output::Text { quiet: true }) {
                ProgressBar::hidden()
            } else {
                progress()
            },
            request,
            begun: Instant::now(),
            measured: Vec::new(),
            during: None,
        }
    }

    /// What is being measured, or was when the run ended before its time.
    pub fn during(&self) -> Option<String> {
        self.during.map(|(goal, pattern)| format!("{} by {}", goal.name(), pattern.title()))
    }

    /// Measures, and tells of each pattern as it ends. What was measured by then
    /// counts when this is dropped before its end.
    ///
    /// # Errors
    ///
    /// Why not all of it was measured.
    pub async fn measure(&mut self) -> Result<(), Error> {
        let wanted = |pattern| self.request.only.is_empty() || self.request.only.contains(&pattern);
        let mut all = match &self.request.call {
            Some(call) => pattern::of_call(call.mode),
            None => pattern::ALL.to_vec(),
        };
        if let Some(call) = &self.request.call
            && !all.iter().any(|(_, pattern)| wanted(*pattern))
        {
            let titles: Vec<_> = all.iter().map(|(_, pattern)| pattern.title()).collect();
            let (path, ways) = (call.path.path(), titles.join(", "));
            return Err(Error::NoWay(format!("{path} is {}, which has other ways: {ways}", call.mode)));
        }
        all.retain(|(_, pattern)| wanted(*pattern));
        self.progress.set_length(all.len() as u64 * STEPS);
        if let Some(file) = &self.request.plot {
            // Before the work, which would be in vain. What is in it stays until then.
            let opened = File::options().append(true).create(true).open(file);
            opened.map_err(|error| Error::Plot { file: file.clone(), error })?;
        }
        let threads = Threads::start(self.request.connections).map_err(Error::Threads)?;
        let mut server = Server::connect(&self.request).await?;
        let mut refused = None;
        for (index, (goal, pattern)) in all.into_iter().enumerate() {
            self.during = Some((goal, pattern));
            self.progress.set_message(format!("{} by {}", goal.name(), pattern.title()));
            let outcome = match pattern.left_out(goal, self.request.size, self.request.rate.is_some()) {
                Some(reason) => Err(reason),
                None => match self.pattern(goal, pattern, index as u64 * STEPS, &threads, &mut server).await?
                {
                    Ok(figures) => Ok(figures),
                    Err(failure) => {
                        let reason = format!("{}: {}", code_name(failure.code()), failure.message);
                        refused.get_or_insert((failure, self.during));
                        Err(reason)
                    }
                },
            };
            let measured = Measured { goal, pattern, outcome };
            let told = self.progress.suspend(|| self.renderer.measured(&measured));
            self.measured.push(measured);
            told?;
        }
        self.during = None;
        // When no way is left, that is a failure and no report.
        let nothing = self.measured.iter().all(|measured| measured.outcome.is_err());
        match refused.filter(|_| nothing) {
            Some((failure, during)) => {
                self.during = during;
                Err(failure.into())
            }
            None => Ok(()),
        }
    }

    /// The figures of one way, or why the server does not want it.
    async fn pattern(
        &self,
        goal: Goal,
        pattern: Pattern,
        done: u64,
        threads: &Threads,
        server: &mut Server,
    ) -> Result<Result<Figures, CallError>, Error> {
        let Request { amount, size, concurrency, rate, warmup, .. } = self.request;
        let connections = pattern.connections(self.request.connections);
        let traffic = Arc::<Traffic>::default();
        let mut lines = Vec::with_capacity(connections);
        for connection in 0..connections {
            lines.push(Line::open(&self.request, traffic.clone(), threads.of(connection)).await?);
        }
        let in_flight = match pattern {
            Pattern::UnaryInFlight | Pattern::BidiPipelined => concurrency,
            Pattern::ServerStreaming if rate.is_some() => concurrency,
            _ => 1,
        };
        let job = match &self.request.call {
            Some(call) => Job::call(call),
            None => Job::own(goal, pattern, size),
        };
        let work = |load, expected| {
            let (times, sending) = (Arc::new(Times::new()), Arc::new(Sending::new()));
            Work { pattern, job: job.clone(), in_flight, load, times, sending, expected }
        };

        // One message shows whether the server takes it at all, and how long the path is.
        let asked = Instant::now();
        let first = work(Load::begin(Amount::Messages(1), None), None);
        if let Err(error) = drive::run(&first, &lines[..1]).await {
            const REFUSED: [Code; 3] = [Code::ResourceExhausted, Code::OutOfRange, Code::PermissionDenied];
            return match error {
                Error::Call(call) if REFUSED.contains(&call.code()) && !call.is_made_here() => Ok(Err(call)),
                Error::Call(call) if self.measured.is_empty() => Err(Error::Unanswered(call)),
                error => Err(error),
            };
        }
        let mut expected = None;
        if !warmup.is_zero() {
            // TCP needs some round trips until it sends as fast as it can.
            let warmup = warmup.max(asked.elapsed() * ROUND_TRIPS);
            let load = Load::begin(Amount::Duration(warmup), None);
            let begun = Instant::now();
            let warm = drive::run(&work(load, None), &lines).await?;
            expected = Some(warm.messages as f64 / begun.elapsed().as_secs_f64() / connections as f64);
        }

        let before = server.ask().await;
        let (sent, received, cpu) = (traffic.sent(), traffic.received(), shared_process::cpu_time());
        let load = Load::begin(amount, rate);
        let work = work(load.clone(), expected);
        let running = drive::run(&work, &lines);
        tokio::pin!(running);
        let tally = loop {
            tokio::select! {
                biased;
                tally = &mut running => break tally?,
                () = tokio::time::sleep(TICK) => {
                    self.progress.set_position(done + (load.progress() * STEPS as f64) as u64);
                }
            }
        };
        let mut took = load.elapsed();
        if (goal, pattern) == (Goal::Receive, Pattern::ServerStreaming) {
            // What comes before the first message of a call is the path's round trip,
            // which is told apart. When all came at once there is nothing to go by.
            let waited = tally.first.iter().sum::<Duration>() / connections as u32;
            took = took.saturating_sub(waited).max(took / 10);
        }
        let cpu = shared_process::cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        let (sent, received) = (traffic.sent() - sent, traffic.received() - received);
        let server_cpu = ServerCpu::between(before, server.ask().await, tally.frames);
        load.end();
        self.progress.set_position(done + STEPS);

        let time_of = pattern.time_of(rate.is_some());
        let times = if time_of == TimeOf::Send { &work.sending.times } else { &work.times };
        if tally.messages == 0 {
            return Err(Error::Answer("no message arrived in that time".to_owned()));
        }
        let streams = matches!(
            pattern,
            Pattern::ClientStreaming | Pattern::Columnar | Pattern::BidiPipelined | Pattern::BidiPingPong
        );
        Ok(Ok(Figures {
            messages: tally.messages,
            bytes: if goal == Goal::Call { tally.bytes } else { tally.messages * size },
            took,
            connections,
            in_flight: matches!(time_of, TimeOf::Answer | TimeOf::Call).then_some(in_flight),
            time_of,
            times: times.take(),
            schedule: load.schedule(),
            headers: median(&tally.headers),
            first_message: median(&tally.first),
            acknowledged: median(&tally.acknowledged),
            blocked: streams.then(|| work.sending.total()),
            wire_sent: sent,
            wire_received: received,
            client_cpu: cpu,
            server_cpu,
        }))
    }

    /// Tells of the whole, and why it is not all that was asked for.
    ///
    /// # Errors
    ///
    /// When that cannot be told or drawn.
    pub fn finish(mut self, failed: Option<Failed>) -> Result<(), Error> {
        self.progress.finish_and_clear();
        let goals = [Goal::Deliver, Goal::Receive];
        let of = |goal| recommend::of(goal, &self.measured, self.request.size);
        let recommendations = match &failed {
            None => goals.into_iter().filter_map(of).collect(),
            // What is missing may have been the best.
            Some(_) => Vec::new(),
        };
        let took = self.begun.elapsed();
        let summary = Summary { measured: &self.measured, recommendations, took, failed };
        let told = self.renderer.finish(&summary);
        if let Some(file) = &self.request.plot
            && self.measured.iter().any(|measured| measured.outcome.is_ok())
        {
            render::plot::svg(&self.request, &self.measured)
                .and_then(|svg| std::fs::write(file, svg))
                .map_err(|error| Error::Plot { file: file.clone(), error })?;
        }
        Ok(told?)
    }
}

/// How many round trips a way is used at least before it is measured.
const ROUND_TRIPS: u32 = 10;
/// How often the bar is moved.
const TICK: Duration = Duration::from_millis(100);

/// A bar for patterns that are measured one after the other. Shown on a terminal
/// alone.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new(1);
    progress.set_draw_target(ProgressDrawTarget::stderr());
    // The `^C` of a terminal has two columns at the end, so that the line never wraps.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {elapsed}, {eta} left  {msg}  \x1b[2D") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(TICK);
    progress
}
