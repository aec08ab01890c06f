//! `client bench`: what a message costs in each way, on this path, at this size.
//!
//! A `load` says when which message is sent, `ways` send and receive them over
//! `line`s, `measure` keeps the times, `server` asks for its share of the work.
//! What came of it is a `report`, of which renderers show everything, and
//! `recommend` what to do.

mod line;
mod load;
mod measure;
mod recommend;
mod render;
mod report;
mod server;
mod ways;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use timeline::Stage;
use tonic::Code;
use transport::Traffic;

use self::{
    line::Line,
    load::Load,
    measure::{Sending, Times, median},
    recommend::Recommendation,
    render::Renderer,
    report::{Figures, Measured},
    server::{Server, ServerCpu},
    ways::{Goal, TimeOf, Work},
};
pub(crate) use self::{load::Amount, ways::Way};
use crate::{
    bar,
    config::Config,
    failure::{Cause, Failure},
};

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Instead of the server that every command has.
    pub(crate) url: Option<String>,
    /// All, when it is empty.
    pub(crate) only: Vec<Way>,
    /// Of each way.
    pub(crate) amount: Amount,
    /// Of a message, in bytes.
    pub(crate) size: u64,
    /// How many are in flight over all connections together.
    pub(crate) concurrency: usize,
    pub(crate) connections: usize,
    /// Messages for each second, of an open loop.
    pub(crate) rate: Option<u64>,
    /// Before each measurement.
    pub(crate) warmup: Duration,
    pub(crate) plot: Option<PathBuf>,
}

/// Measures, but not longer than until `stop`. However it ends, what was measured
/// by then is told.
pub(crate) async fn run(config: &Config, bench: &Bench, stop: impl Future<Output = Failure>) -> ExitCode {
    let mut run = Run {
        config,
        bench,
        renderer: render::for_output(config, bench),
        progress: if config.quiet { ProgressBar::hidden() } else { bar::of_ways() },
        begun: Instant::now(),
        measured: Vec::new(),
        during: None,
    };
    let ended = tokio::select! {
        biased;
        failure = stop => Err(failure),
        ended = run.measure() => ended,
    };
    run.finish(ended)
}

struct Run<'a> {
    config: &'a Config,
    bench: &'a Bench,
    renderer: Box<dyn Renderer>,
    progress: ProgressBar,
    begun: Instant,
    measured: Vec<Measured>,
    /// What is being measured.
    during: Option<(Goal, Way)>,
}

/// All of a run.
struct Summary<'a> {
    measured: &'a [Measured],
    recommendations: Vec<Recommendation>,
    took: Duration,
    failure: Option<&'a Failure>,
}

/// Steps of the progress of one way.
const STEPS: u64 = 1000;

impl Run<'_> {
    async fn measure(&mut self) -> Result<(), Failure> {
        let wanted = |way| self.bench.only.is_empty() || self.bench.only.contains(&way);
        let all: Vec<_> = ways::ALL.into_iter().filter(|(_, way)| wanted(*way)).collect();
        self.progress.set_length(all.len() as u64 * STEPS);
        let mut server = Server::connect(self.config).await?;
        let mut refused = None;
        for (index, (goal, way)) in all.into_iter().enumerate() {
            self.during = Some((goal, way));
            self.progress.set_message(format!("{} by {}", goal.name(), way.title()));
            let outcome = match way.left_out(self.bench.size, self.bench.rate.is_some()) {
                Some(reason) => Err(reason),
                None => match self.way(goal, way, index as u64 * STEPS, &mut server).await? {
                    Ok(figures) => Ok(figures),
                    Err(failure) => {
                        let reason = format!("{}: {}", failure.code(), failure.message());
                        refused.get_or_insert((failure, self.during));
                        Err(reason)
                    }
                },
            };
            let measured = Measured { goal, way, outcome };
            let told = self.progress.suspend(|| self.renderer.measured(&measured));
            self.measured.push(measured);
            told.map_err(|error| Failure::unwritten(&error))?;
        }
        self.during = None;
        // When no way is left, that is a failure and no report.
        let nothing = self.measured.iter().all(|measured| measured.outcome.is_err());
        match refused.filter(|_| nothing) {
            Some((failure, during)) => {
                self.during = during;
                Err(failure)
            }
            None => Ok(()),
        }
    }

    /// The figures of one way, or why the server does not want it.
    async fn way(
        &self,
        goal: Goal,
        way: Way,
        done: u64,
        server: &mut Server,
    ) -> Result<Result<Figures, Failure>, Failure> {
        let Bench { amount, size, concurrency, rate, warmup, .. } = *self.bench;
        let connections = way.connections(self.bench.connections);
        let traffic = Arc::<Traffic>::default();
        let mut lines = Vec::with_capacity(connections);
        for _ in 0..connections {
            lines.push(Line::open(self.config, traffic.clone()).await?);
        }
        let in_flight = match way {
            Way::UnaryInFlight | Way::BidiPipelined => concurrency,
            _ => 1,
        };
        let work = |load, expected| {
            let (times, sending) = (Arc::new(Times::new()?), Arc::new(Sending::new()?));
            Ok::<_, Failure>(Work { goal, way, size, in_flight, load, times, sending, expected })
        };

        // One message shows whether the server takes it at all.
        let first = work(Load::begin(Amount::Messages(1), None), None)?.run(&lines[..1]).await;
        if let Err(failure) = first {
            const REFUSED: [Code; 3] = [Code::ResourceExhausted, Code::OutOfRange, Code::PermissionDenied];
            return match &failure.cause {
                Cause::Call(call) if REFUSED.contains(&call.code()) && !call.is_made_here() => {
                    Ok(Err(failure))
                }
                _ if self.measured.is_empty() => Err(Failure { stage: Stage::Unanswered, ..failure }),
                _ => Err(failure),
            };
        }
        let mut expected = None;
        if !warmup.is_zero() {
            let load = Load::begin(Amount::Duration(warmup), None);
            let begun = Instant::now();
            let warm = work(load, None)?.run(&lines).await?;
            expected = Some(warm.messages as f64 / begun.elapsed().as_secs_f64() / connections as f64);
        }

        let before = server.ask().await;
        let (sent, received, cpu) = (traffic.sent(), traffic.received(), shared_process::cpu_time());
        let load = Load::begin(amount, rate);
        let work = work(load.clone(), expected)?;
        let running = work.run(&lines);
        tokio::pin!(running);
        let tally = loop {
            tokio::select! {
                biased;
                tally = &mut running => break tally?,
                () = tokio::time::sleep(bar::TICK) => {
                    self.progress.set_position(done + (load.progress() * STEPS as f64) as u64);
                }
            }
        };
        let took = load.elapsed();
        let cpu = shared_process::cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        let (sent, received) = (traffic.sent() - sent, traffic.received() - received);
        let server_cpu = ServerCpu::between(before, server.ask().await, tally.frames);
        load.end();
        self.progress.set_position(done + STEPS);

        let time_of = way.time_of(rate.is_some());
        let times = if time_of == TimeOf::Send { &work.sending.times } else { &work.times };
        if tally.messages == 0 {
            return Err(Failure::answer("no message has arrived in all that time"));
        }
        let streams =
            matches!(way, Way::ClientStreaming | Way::Columnar | Way::BidiPipelined | Way::BidiPingPong);
        Ok(Ok(Figures {
            messages: tally.messages,
            message_bytes: size,
            took,
            connections,
            in_flight: (time_of == TimeOf::Answer).then_some(in_flight),
            time_of,
            times: times.take(),
            schedule: load.schedule(tally.messages),
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

    /// What was measured by then counts, however it ended.
    fn finish(mut self, ended: Result<(), Failure>) -> ExitCode {
        self.progress.finish_and_clear();
        let goals = [Goal::Deliver, Goal::Receive];
        let of = |goal| recommend::of(goal, &self.measured, self.bench.size);
        let recommendations = match &ended {
            Ok(()) => goals.into_iter().filter_map(of).collect(),
            // What is missing may have been the best.
            Err(_) => Vec::new(),
        };
        let failure = ended.as_ref().err();
        let took = self.begun.elapsed();
        let summary = Summary { measured: &self.measured, recommendations, took, failure };
        let told = self.renderer.finish(&summary).map_err(|error| Failure::unwritten(&error));
        let drawn = match &self.bench.plot {
            Some(file) if self.measured.iter().any(|measured| measured.outcome.is_ok()) => {
                render::plot::svg(self.config, self.bench, &self.measured)
                    .and_then(|svg| std::fs::write(file, svg))
                    .map_err(|error| Failure::output(&file.display().to_string(), &error))
            }
            _ => Ok(()),
        };
        let tried = match self.during {
            Some((goal, way)) => format!("{}, {} by {}", self.config.tried(), goal.name(), way.title()),
            None => self.config.tried(),
        };
        match ended.and(told).and(drawn) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        }
    }
}
