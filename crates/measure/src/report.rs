//! The results of a measurement.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    load::Schedule,
    pattern::{Goal, Pattern, TimeOf},
    server::ServerCpu,
};

/// The result of one way.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) goal: Goal,
    pub(crate) pattern: Pattern,
    /// The figures, or why there are none.
    pub(crate) outcome: Result<Figures, String>,
}

#[derive(Debug)]
pub(crate) struct Figures {
    /// Messages that have arrived for certain.
    pub(crate) messages: u64,
    /// The payload of those messages; for a foreign method, of requests and responses.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) connections: usize,
    /// How many messages may be unanswered, if each is answered.
    pub(crate) in_flight: Option<usize>,
    pub(crate) time_of: TimeOf,
    /// In nanoseconds.
    pub(crate) times: Histogram<u64>,
    pub(crate) schedule: Option<Schedule>,
    /// From the beginning of a stream to the headers of the response, and to its first
    /// message. The median of several streams.
    pub(crate) headers: Option<Duration>,
    pub(crate) first_message: Option<Duration>,
    /// From the last message of a stream to the response that confirms all messages.
    pub(crate) acknowledged: Option<Duration>,
    /// How long the streams were blocked, added up.
    pub(crate) blocked: Option<Duration>,
    /// Bytes at the sockets.
    pub(crate) wire_sent: u64,
    pub(crate) wire_received: u64,
    /// The CPU time of this process.
    pub(crate) client_cpu: Option<Duration>,
    pub(crate) server_cpu: ServerCpu,
}

impl Figures {
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn bytes_rate(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn per_message(&self, of_all: f64) -> f64 {
        of_all / self.messages as f64
    }

    /// In seconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e9
    }

    /// In seconds per message.
    pub(crate) fn client_cpu(&self) -> Option<f64> {
        self.client_cpu.map(|cpu| self.per_message(cpu.as_secs_f64()))
    }

    /// In seconds per message, if the server's CPU time is known and not shared with
    /// other work.
    pub(crate) fn server_cpu(&self) -> Option<f64> {
        match &self.server_cpu {
            ServerCpu::Known(cpu) => Some(self.per_message(cpu.as_secs_f64())),
            ServerCpu::Shared(_) | ServerCpu::Unknown(_) => None,
        }
    }
}

impl Measured {
    /// The result as JSON. The names are documented in `docs/measure.md` and do not
    /// change.
    pub(crate) fn json(&self) -> Value {
        let mut line = json!({ "type": "way", "goal": self.goal, "way": self.pattern });
        let figures = match &self.outcome {
            Ok(figures) => figures,
            Err(reason) => {
                line["left_out"] = reason.as_str().into();
                return line;
            }
        };
        let microseconds = |time: Option<Duration>| time.map(|time| time.as_nanos() as f64 / 1e3);
        let quantile = |quantile| figures.times.value_at_quantile(quantile) as f64 / 1e3;
        let wire = |bytes: u64| figures.per_message(bytes as f64);
        let (server, server_cpu) = match &figures.server_cpu {
            ServerCpu::Known(cpu) => ("known", Some(*cpu)),
            ServerCpu::Shared(cpu) => ("shared", Some(*cpu)),
            ServerCpu::Unknown(reason) => (reason.as_str(), None),
        };
        let cpu = |time: Option<Duration>| time.map(|time| figures.per_message(time.as_nanos() as f64 / 1e3));
        let all = json!({
            "messages": figures.messages,
            "message_bytes": figures.per_message(figures.bytes as f64).round() as u64,
            "connections": figures.connections,
            "in_flight": figures.in_flight,
            "seconds": figures.took.as_secs_f64(),
            "messages_per_second": figures.rate(),
            "bytes_per_second": figures.bytes_rate(),
            "time_of": figures.time_of,
            "p50_us": quantile(0.5),
            "p90_us": quantile(0.9),
            "p99_us": quantile(0.99),
            "p99_9_us": quantile(0.999),
            "max_us": figures.times.max() as f64 / 1e3,
            "headers_us": microseconds(figures.headers),
            "first_message_us": microseconds(figures.first_message),
            "acknowledged_us": microseconds(figures.acknowledged),
            "blocked_seconds": figures.blocked.map(|time| time.as_secs_f64()),
            "wire_sent_bytes_per_message": wire(figures.wire_sent),
            "wire_received_bytes_per_message": wire(figures.wire_received),
            "client_cpu_us_per_message": cpu(figures.client_cpu),
            "server_cpu_us_per_message": cpu(server_cpu),
            "server_cpu": server,
            "schedule": figures.schedule.map(|schedule| json!({
                "rate": schedule.rate,
                "messages": schedule.messages,
                "unsent": schedule.unsent,
                "late": schedule.late,
                "behind_us": microseconds(Some(schedule.behind)),
                "kept": schedule.kept,
            })),
        });
        if let (Value::Object(line), Value::Object(all)) = (&mut line, all) {
            // Values that are unknown, or that this way does not have, are omitted.
            line.extend(all.into_iter().filter(|(_, value)| !value.is_null()));
        }
        line
    }
}
