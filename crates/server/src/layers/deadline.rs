//! Keeps the deadline of a call to the last trailer.
//!
//! What tonic does of itself with `grpc-timeout` ends with the response's head,
//! so it never ends a server stream, and answers CANCELLED. Here a call of any
//! mode ends with DEADLINE_EXCEEDED. A unary call whose client has sent none
//! gets one; a stream without one may go on.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use shared_proto::Mode;
use tokio::time::sleep_until;
use tower::{Layer, Service};

use super::{
    call::Call,
    ending::{Request, Response, ResponseFuture, until},
};
use crate::error::{bad_timeout, deadline_exceeded};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

#[derive(Clone)]
pub(crate) struct Deadline {
    /// Of a unary call whose client has sent none.
    pub(crate) unary: Duration,
}

#[derive(Clone)]
pub(crate) struct DeadlineService<S> {
    layer: Deadline,
    inner: S,
}

impl<S> Layer<S> for Deadline {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { layer: self.clone(), inner }
    }
}

impl<S> Service<Request> for DeadlineService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(call) = Call::of(&request) else { return Box::pin(self.inner.call(request)) };
        let given = match request.headers().get(&GRPC_TIMEOUT).map(timeout) {
            Some(None) => return Box::pin(std::future::ready(Ok(bad_timeout().into_http()))),
            given => given.flatten(),
        };
        let mode = call.mode;
        let by_default = (mode == Some(Mode::Unary)).then_some(self.layer.unary);
        let Some(timeout) = given.or(by_default) else {
            return Box::pin(self.inner.call(request));
        };
        // Tonic's own timer begins later, and is asked after this one.
        let timer = sleep_until(call.begun + timeout);
        let many = mode.is_some_and(Mode::has_many_responses);
        until(&mut self.inner, request, many, async move {
            timer.await;
            deadline_exceeded(timeout)
        })
    }
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it.
pub(crate) fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        let read = |text: &str| timeout(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("0u"), Some(Duration::ZERO));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "S", "1", "1s", "+1S", "-1S", "1.5S", "123456789S", "1 S", "1SS"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(timeout(&HeaderValue::from_bytes(b"1\xff").unwrap()), None);
    }
}
