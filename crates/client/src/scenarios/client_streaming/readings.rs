//! Delivers readings, in calls that end now and then: only the answer says what
//! is safe, so what is delivered without one has to be kept.

pub(crate) mod answer;
mod delivery;
pub(crate) mod input;

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use self::{answer::Answer, delivery::Delivery};
use crate::{failure::Failure, scenario::Scenario, session::Session};

/// Deliver readings of devices, and get statistics over all readings on the server
///
/// Each reading counts once: delivering a file again adds only the readings that the server does
/// not have.
#[derive(Debug, Args)]
pub(crate) struct Readings {
    /// CSV with the columns device,time,value or JSON lines with these
    /// keys; `-` reads standard input. Times are RFC 3339 or Unix seconds
    file: PathBuf,
    /// Name under which the batches are numbered. Use a name again only for the same readings
    /// [default: a checksum of the file; a new name for input that can be read only once]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    producer: Option<String>,
}

/// Empty until the server has answered, or had nothing to answer.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    answer: Option<Answer>,
}

impl Scenario for Readings {
    type Report = Report;

    fn check(&self) -> Result<(), Failure> {
        input::check(&self.file)
    }

    /// Delivers all of the file. A lost connection costs nothing but time: what
    /// was not answered is delivered again, and the server knows what it has by
    /// the numbers. So does the next run with the same file.
    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        let mut delivery = Delivery::of(&self.file, self.producer.clone(), session.progress());
        // Before a call: a file that cannot be used is no reason to make one.
        while delivery.has_more().await? {
            let response = session.repeating(async || delivery.call(session).await).await?;
            session.progressed();
            delivery.acknowledge(response, report.answer.get_or_insert_default())?;
        }
        let answer = report.answer.get_or_insert_default();
        answer.refuse(&mut delivery.refused);
        match answer.refused.first() {
            Some(first) if answer.count + answer.repeated_count == 0 => {
                let reason = format!("no row counts; line {}: {}", first.line, first.reason);
                Err(Failure::input(&self.file, reason))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.as_ref().map_or(Ok(()), |answer| answer.fmt(f))
    }
}
