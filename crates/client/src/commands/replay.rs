//! `replay`: the calls of a recording, made again.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use serde_json::json;
use timeline::words::{counted, json_line, printable};
use watch::{Ignored, Pools, Recording, Replayed, calls, replay};

use super::watch::{config, describe};
use crate::{
    config::Config,
    failure::Failure,
    options::{Options, Output},
    stop::stop,
    values::speed,
};

/// Repeat the calls of a recording, and report differences
///
/// Calls start at their original times, but not before earlier calls that had ended by then.
/// Requests keep their order relative to the server's messages. It compares status, number of
/// messages, bytes and order. Recordings contain no secrets: give a token as for any call.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Recording of `watch --record` or `call --record`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Speed factor
    #[arg(long, default_value = "1", value_name = "FACTOR", value_parser = speed)]
    speed: f64,
    /// Compare messages without a field: by its name, such as create_time, or by its type,
    /// such as google.protobuf.Timestamp; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "FIELD")]
    ignore: Vec<String>,
}

impl Replay {
    /// Calls until it is done, the time is over, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        let config = config("replay", None, options)?.without_frames("replay")?;
        let tried = config.tried(&format!("replay {}", self.file.display()));
        Ok(match self.replay(&config).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(failure) => failure.report(&tried),
        })
    }

    /// Whether nothing differs.
    async fn replay(self, config: &Config) -> Result<bool, Failure> {
        let stop = stop(config.deadline)?;
        let wrong = |error| Failure::input(&self.file, error);
        let mut recording = Recording::open(&self.file).map_err(wrong)?;
        let calls = calls(&mut recording).map_err(wrong)?;
        let (fit, unfit): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.unfit().is_none());
        let mut told = Told { config, written: Ok(()), calls: 0, differ: 0 };
        for call in &unfit {
            told.say(json!({
                "type": "left_out",
                "call": call.number,
                "path": call.path,
                "reason": call.unfit(),
            }));
        }
        let server = config.server();
        let ignored = Ignored { fields: self.ignore, pools: Pools::default() };
        ignored.pools.add(shared_proto::POOL.clone());
        if !ignored.fields.is_empty() {
            // Without a description the messages are compared whole.
            let _ = describe(&config.connector, &server, &ignored.pools).await;
        }
        tokio::select! {
            biased;
            failure = stop => return Err(failure),
            ended = replay(fit, &config.connector, &server, self.speed, &ignored, |replayed| told.tell(&replayed)) => ended?,
        }
        told.finish(unfit.len())
    }
}

/// What is said on stdout.
struct Told<'a> {
    config: &'a Config,
    written: io::Result<()>,
    calls: u64,
    differ: u64,
}

impl Told<'_> {
    fn tell(&mut self, Replayed { call, differences }: &Replayed) {
        self.calls += 1;
        if !differences.is_empty() {
            self.differ += 1;
            let (number, path) = (call.number, &call.path);
            self.say(
                json!({ "type": "differs", "call": number, "path": path, "reason": differences.join("; ") }),
            );
        }
    }

    fn say(&mut self, line: serde_json::Value) {
        let text = match self.config.output {
            _ if self.config.quiet => return,
            Output::Text => {
                let text = |field: &str| printable(line[field].as_str().unwrap_or_default()).into_owned();
                let verb = if line["type"] == "differs" { "differs" } else { "is left out" };
                format!("call {} {} {verb}: {}\n", line["call"], text("path"), text("reason"))
            }
            Output::Json | Output::Junit => json_line(&line),
        };
        if self.written.is_ok() {
            self.written = io::stdout().write_all(text.as_bytes());
        }
    }

    fn finish(self, left_out: usize) -> Result<bool, Failure> {
        let Self { config, written, calls, differ } = self;
        let value = json!({ "calls": calls, "differ": differ, "left_out": left_out });
        let text = match config.output {
            Output::Text => {
                let left_out = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
                format!("{} made again, {differ} of them not as recorded{left_out}\n", counted(calls, "call"))
            }
            Output::Json | Output::Junit => json_line(&timeline::result("all", "replay", value, None)),
        };
        let written = written.and_then(|()| io::stdout().write_all(text.as_bytes()));
        written.and_then(|()| io::stdout().flush()).map_err(|error| Failure::unwritten(&error))?;
        Ok(differ == 0)
    }
}
