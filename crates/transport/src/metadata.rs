//! The metadata of every call: the caller's token, the trace, and the faults that were
//! requested.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tonic::Code;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");

/// Asks the server to end calls with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The status.
    pub code: Code,
    /// The percentage of calls.
    pub percent: u32,
}

/// Asks the server to wait before it answers calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The time to wait.
    pub time: Duration,
    /// The percentage of calls.
    pub percent: u32,
}

/// The metadata that a run adds to every call.
#[derive(Debug, Clone)]
pub struct OutgoingMetadata {
    /// Must not be shown or printed.
    token: Option<HeaderValue>,
    /// The id of the whole run.
    trace: u128,
    faults: HeaderMap,
}

impl Default for OutgoingMetadata {
    /// Without a token, and without faults.
    fn default() -> Self {
        Self { token: None, trace: fastrand::u128(1..), faults: HeaderMap::new() }
    }
}

impl OutgoingMetadata {
    /// # Errors
    ///
    /// When the token is not a valid header value.
    pub fn new(token: Option<&str>, abort: Option<Abort>, delay: Option<Delay>) -> Result<Self, String> {
        let mut faults = HeaderMap::new();
        if let Some(Abort { code, percent }) = abort {
            faults.extend([(ABORT, (code as u32).into()), (ABORT_PERCENTAGE, percent.into())]);
        }
        if let Some(Delay { time, percent }) = delay {
            let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            faults.extend([(DELAY, milliseconds.into()), (DELAY_PERCENTAGE, HeaderValue::from(percent))]);
        }
        Ok(Self { token: token.map(bearer).transpose()?, trace: fastrand::u128(1..), faults })
    }

    /// The faults that were requested.
    pub fn faults(&self) -> &HeaderMap {
        &self.faults
    }

    /// Adds the token and the trace, each unless the request already has one. Neither is
    /// shown: the token is a secret, and the trace id would add a line to each call.
    pub fn identify<B>(&self, request: &mut http::Request<B>) {
        if let Some(token) = &self.token {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| token.clone());
        }
        if request.headers().contains_key(TRACEPARENT) {
            return;
        }
        let (trace, span) = (format!("{:032x}", self.trace), fastrand::u64(1..));
        tracing::debug!(trace_id = trace, method = request.uri().path(), "call");
        let value = format!("00-{trace}-{span:016x}-01");
        request.headers_mut().extend(HeaderValue::from_str(&value).map(|value| (TRACEPARENT, value)));
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_one);
    let mut value = value.ok_or("a token is one line of visible ASCII characters")?;
    value.set_sensitive(true);
    Ok(value)
}
