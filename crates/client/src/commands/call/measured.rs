//! A method of anybody's for `measure`: found as `call` finds it, its messages encoded.

use super::{
    input::{Input, Place},
    service::{LIST, Service, reflected, wanted},
};
use crate::{config::Config, failure::Failure};

/// More is not needed to measure, and would have to stay in memory.
const MOST_BYTES: usize = 256 << 20;

/// # Errors
///
/// When there is no such method, or the data does not fit it.
pub(crate) async fn method(
    service: &Service,
    config: &Config,
    symbol: &str,
    data: Option<&str>,
    per_call: Option<u64>,
) -> Result<measure::Call, Failure> {
    let (symbol, Some(method)) = wanted(symbol) else {
        return Err(Failure::unfit(format!("{symbol} is no SERVICE/METHOD"), LIST));
    };
    let schema = match service.schema_of_files()? {
        Some(schema) => schema,
        None => {
            let channel = config.connector.connect(&config.server()).await?;
            service.reflection(channel).schema(symbol).await.map_err(reflected)?
        }
    };
    let method = schema.method(symbol, method).map_err(|unknown| Failure::unfit(unknown, LIST))?;
    let mode = grpc_wire::mode_of(&method);
    if per_call.is_some() && !mode.has_many_requests() {
        let reason = format!("--per-call is for streams of requests, and {} is {mode}", method.full_name());
        return Err(Failure::unfit(reason, "leave --per-call out"));
    }
    let mut read = Input::Json(Place::of(data.unwrap_or("{}"))).read(&method.input(), None);
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(message) = read.recv().await.transpose()? {
        bytes += message.len();
        if bytes > MOST_BYTES {
            let reason = format!("the messages have more than {} MiB", MOST_BYTES >> 20);
            return Err(Failure::unfit(reason, "give fewer: they are sent in turn, again and again"));
        }
        messages.push(message);
    }
    if messages.is_empty() {
        return Err(Failure::unfit("there is no message to send", "give one with -d"));
    }
    let path = schema::path_of(&method).try_into();
    let path = path.map_err(|error: http::uri::InvalidUri| Failure::answer(error.to_string()))?;
    let metadata = service.metadata().into_headers();
    Ok(measure::Call { path, mode, messages, metadata, per_call })
}
