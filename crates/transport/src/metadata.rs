//! What goes along with every call: who calls, the trace it is a part of, and
//! the faults that were asked for.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tonic::Code;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");

/// That a server is to end calls with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The status.
    pub code: Code,
    /// Of so many of a hundred calls.
    pub percent: u32,
}

/// That a server is to wait before it answers calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Of so many of a hundred calls.
    pub percent: u32,
}

/// What goes along with every call of a run.
#[derive(Debug, Clone)]
pub struct OutgoingMetadata {
    /// Not to be shown, nor printed.
    token: Option<HeaderValue>,
    /// Of the whole run.
    trace: u128,
    faults: HeaderMap,
}

impl Default for OutgoingMetadata {
    /// Nobody in particular calls, and no faults are asked for.
    fn default() -> Self {
        Self { token: None, trace: fastrand::u128(1..), faults: HeaderMap::new() }
    }
}

impl OutgoingMetadata {
    /// # Errors
    ///
    /// When the token is none.
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

    /// The faults that are asked for.
    pub fn faults(&self) -> &HeaderMap {
        &self.faults
    }

    /// Says who calls, and of which trace the call is a part, unless the request says
    /// so already. That is not to be shown: a token is a secret, and an id of a trace
    /// is one line more.
    pub fn identify<B>(&self, request: &mut http::Request<B>) {
        if request.headers().contains_key(TRACEPARENT) {
            return;
        }
        let (trace, span) = (format!("{:032x}", self.trace), fastrand::u64(1..));
        tracing::debug!(trace_id = trace, method = request.uri().path(), "call");
        let value = format!("00-{trace}-{span:016x}-01");
        let headers = request.headers_mut();
        headers.extend(HeaderValue::from_str(&value).map(|value| (TRACEPARENT, value)));
        // One that the user has given for this call counts.
        if let Some(token) = &self.token {
            headers.entry(AUTHORIZATION).or_insert_with(|| token.clone());
        }
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
