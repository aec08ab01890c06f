//! What goes along with every call: who calls, the trace it is a part of, and
//! the faults that were asked for.

use std::{fs, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::cli::{Abort, Delay, Options};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");

#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// Not to be shown, nor printed.
    token: Option<HeaderValue>,
    /// Of the whole run.
    trace: u128,
    faults: Vec<(HeaderName, HeaderValue)>,
}

impl Attached {
    /// # Errors
    ///
    /// When there is no token where one was said to be.
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let token = match (&options.token_file, &options.token) {
            (Some(file), _) => Some(read(file)?),
            (None, token) => token.clone(),
        };
        let faults = abort(options.fault_abort).into_iter().chain(delay(options.fault_delay)).flatten();
        Ok(Self {
            token: token.map(|token| bearer(token.trim())).transpose()?,
            trace: fastrand::u128(1..),
            faults: faults.map(|(name, value)| (name, HeaderValue::from(value))).collect(),
        })
    }

    /// A trace, and nothing else.
    pub(crate) fn nothing() -> Self {
        Self { token: None, trace: fastrand::u128(1..), faults: Vec::new() }
    }

    /// Is shown as it is sent.
    pub(crate) fn ask_for_faults(&self, headers: &mut HeaderMap) {
        headers.extend(self.faults.iter().cloned().map(|(name, value)| (Some(name), value)));
    }

    /// Is not: a token is a secret, and an id of a trace is one line more.
    pub(crate) fn identify<B>(&self, request: &mut http::Request<B>) {
        let (trace, span) = (format!("{:032x}", self.trace), fastrand::u64(1..));
        tracing::debug!(trace_id = trace, method = request.uri().path(), "call");
        let value = format!("00-{trace}-{span:016x}-01");
        let headers = request.headers_mut();
        headers.extend(HeaderValue::from_str(&value).map(|value| (TRACEPARENT, value)));
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("--token-file {}: {error}", file.display()))
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_one);
    let mut value = value.ok_or("a token is one line of visible ASCII characters")?;
    value.set_sensitive(true);
    Ok(value)
}

fn abort(abort: Option<Abort>) -> Option<[(HeaderName, u32); 2]> {
    let Abort { code, percent } = abort?;
    Some([(ABORT, code as u32), (ABORT_PERCENTAGE, percent)])
}

fn delay(delay: Option<Delay>) -> Option<[(HeaderName, u32); 2]> {
    let Delay { time, percent } = delay?;
    let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    Some([(DELAY, milliseconds), (DELAY_PERCENTAGE, percent)])
}
