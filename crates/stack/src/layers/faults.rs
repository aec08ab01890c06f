//! Faults that a client asks for, by the headers that Envoy has for it: so what
//! a client does about them can be watched. Only on a server that allows it.

use std::time::Duration;

use http::HeaderMap;
use tonic::Code;

use super::around::{Around, HttpService, Request, ResponseFuture};
use crate::status::injected;

const ABORT: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_PERCENTAGE: &str = "x-envoy-fault-abort-request-percentage";
const DELAY: &str = "x-envoy-fault-delay-request";
const DELAY_PERCENTAGE: &str = "x-envoy-fault-delay-request-percentage";

pub(super) struct Faults;

impl<S: HttpService> Around<S> for Faults {
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        let Wanted { delay, abort } = Wanted::of(request.headers());
        if delay.is_none() && abort.is_none() {
            return Box::pin(inner.call(request));
        }
        // The one that was asked whether it is ready.
        let ready = inner.clone();
        let mut inner = std::mem::replace(inner, ready);
        Box::pin(async move {
            tokio::time::sleep(delay.unwrap_or_default()).await;
            match abort {
                Some(code) => Ok(injected(code).into_http()),
                None => inner.call(request).await,
            }
        })
    }
}

struct Wanted {
    delay: Option<Duration>,
    abort: Option<Code>,
}

impl Wanted {
    fn of(headers: &HeaderMap) -> Self {
        let number = |name| headers.get(name)?.to_str().ok()?.parse::<u32>().ok();
        let happens = |percentage| fastrand::u32(..100) < number(percentage).unwrap_or(100);
        let delay = number(DELAY).filter(|_| happens(DELAY_PERCENTAGE));
        // OK would be an answer without a message.
        let abort = number(ABORT).filter(|code| (1..=16).contains(code) && happens(ABORT_PERCENTAGE));
        Self {
            delay: delay.map(|milliseconds| Duration::from_millis(milliseconds.into())),
            abort: abort.and_then(|code| i32::try_from(code).ok()).map(Code::from_i32),
        }
    }
}
