//! Values as people write them on a command line.

use std::{convert::Infallible, time::Duration};

use uuid::Uuid;

/// A length of time, up to a year.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number with a unit, such as 500ms, 5s or 2m"))?;
    if duration > LONGEST {
        return Err("it must be at most a year".to_owned());
    }
    Ok(duration)
}

/// A length of time in which a server can do something.
pub(crate) fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = duration(text)?;
    if deadline < Duration::from_millis(1) {
        return Err("it must be at least 1ms".to_owned());
    }
    Ok(deadline)
}

/// Any UUID but the nil one, which stands for none.
pub(crate) fn uuid(text: &str) -> Result<Uuid, String> {
    let parsed = Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil());
    parsed.ok_or_else(|| "write a UUID such as 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42".to_owned())
}

/// Text without the spaces around it.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser that could fail")]
pub(crate) fn trimmed(text: &str) -> Result<String, Infallible> {
    Ok(text.trim().to_owned())
}

/// How many times as fast.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.01..=1_000.0).contains(speed));
    speed.ok_or_else(|| "write a number from 0.01 to 1000, such as 2 or 0.5".to_owned())
}
