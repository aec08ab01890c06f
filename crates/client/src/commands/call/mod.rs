//! `call`: any method of any server, by descriptors that are found when it runs.

mod corner;
mod exchange;
mod input;
mod listing;
mod report;
mod run;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use clap::{Args, ValueEnum};
use http::uri::Authority;
use schema::{Schema, json::Names};
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

pub(crate) use self::corner::Corner;
use self::{
    input::{Input, Place},
    run::Run,
};
use super::record::Record;
use crate::{
    config::Config,
    failure::Failure,
    options::Options,
    stop::stop,
    values::{duration, trimmed},
};

/// Call any method of any gRPC server, or list its services
///
/// Without a method, it lists the services, or shows a service or a message. The message types come
/// from the server's reflection, or from --proto or --descriptors.
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The server: host:port without TLS, https://host[:port], or unix:///path
    #[arg(value_parser = trimmed)]
    target: String,
    /// Method to call, as package.Service/Method; or a service or message to show
    #[arg(value_name = "SERVICE[/METHOD]", value_parser = trimmed)]
    symbol: Option<String>,
    /// The message as JSON, several one after the other, or @FILE, or @- for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true, conflicts_with_all = ["data_binary", "interactive"])]
    data: Option<String>,
    /// Encoded messages in gRPC's framing: a zero byte, the length in four bytes, the message
    #[arg(long, value_name = "@FILE", conflicts_with = "interactive")]
    data_binary: Option<String>,
    /// Type messages, one per line; Ctrl-D ends them
    #[arg(long)]
    interactive: bool,
    /// Pause between messages
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pace: Option<Duration>,
    /// Send no half-close: the call lasts until the server or Ctrl-C ends it
    #[arg(long)]
    keep_open: bool,
    /// Make the call N times in sequence, and stop at the first failure
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), hide_default_value = true)]
    repeat: u64,
    /// Metadata to send, such as 'key: value'; values of -bin keys in base64
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header, allow_hyphen_values = true)]
    headers: Vec<Header>,
    /// Server name for the call and the certificate, in place of the host
    #[arg(long, value_name = "NAME")]
    authority: Option<Authority>,
    /// Compress requests
    #[arg(long, value_name = "ENCODING")]
    compress: Option<Compression>,
    /// Maximum size of a response message
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = shared_process::bytes)]
    max_message: u64,
    /// Accept every certificate: anyone can impersonate the server
    #[arg(long)]
    insecure_skip_verify: bool,
    /// Proto source of the service, in place of reflection; repeatable
    #[arg(long, value_name = "FILE", conflicts_with = "descriptors")]
    proto: Vec<PathBuf>,
    /// Directory with imports of --proto; repeatable
    #[arg(short = 'I', long = "include", value_name = "DIR", requires = "proto")]
    includes: Vec<PathBuf>,
    /// Descriptor set of the service by protoc or buf, in place of reflection
    #[arg(long, value_name = "FILE.binpb")]
    descriptors: Option<PathBuf>,
    /// Print a JSON template of the request, without a call
    #[arg(long)]
    template: bool,
    /// Use the proto's field names in place of lowerCamelCase
    #[arg(long)]
    proto_names: bool,
    /// Also show headers and trailers
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    Gzip,
    Zstd,
}

#[derive(Debug, Clone)]
enum Header {
    Ascii(AsciiMetadataKey, AsciiMetadataValue),
    Binary(BinaryMetadataKey, BinaryMetadataValue),
}

fn header(text: &str) -> Result<Header, String> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
    let (key, value) = text.split_once(':').ok_or("write it as 'key: value'")?;
    let (key, value) = (key.trim().to_lowercase(), value.trim());
    let wrong = |reason: &dyn std::fmt::Display| format!("{key}: {reason}");
    if key.ends_with("-bin") {
        let bytes =
            BASE64.decode(value).map_err(|error| wrong(&format!("the value is not base64: {error}")))?;
        let name = BinaryMetadataKey::from_bytes(key.as_bytes()).map_err(|error| wrong(&error))?;
        return Ok(Header::Binary(name, BinaryMetadataValue::from_bytes(&bytes)));
    }
    let name = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|error| wrong(&error))?;
    let mut value: AsciiMetadataValue = value.parse().map_err(|error| wrong(&error))?;
    value.set_sensitive(
        ["authorization", "proxy-authorization", "cookie", "x-api-key"].contains(&key.as_str()),
    );
    Ok(Header::Ascii(name, value))
}

impl Call {
    /// Calls until it is done, the time is over, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        let mut config = Config::of_any_server(&self.target, options)?;
        config.connector.authority.clone_from(&self.authority);
        config.connector.tls.unverified = self.insecure_skip_verify;
        let input = self.input()?;
        if self.insecure_skip_verify {
            let warning = "warning: the certificate of the server is not verified (--insecure-skip-verify)\n";
            // Without a stderr nobody is there to be warned.
            let _ = io::stderr().write_all(warning.as_bytes());
        }
        let tried = match &self.symbol {
            Some(symbol) => format!("call {} {symbol}", self.target),
            None => format!("call {}", self.target),
        };
        let mut run = Run::new(&self, &config, input);
        let ended = match stop(config.deadline) {
            Err(failure) => Err(failure),
            Ok(stop) => tokio::select! {
                biased;
                failure = stop => Err(failure),
                ended = run.go() => ended,
            },
        };
        let ended = run.finish(ended.map_err(|failure| Failure { is_foreign: true, ..failure })).await;
        Ok(match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        })
    }

    fn input(&self) -> Result<Input, String> {
        let input = match (&self.data, &self.data_binary) {
            _ if self.interactive => Input::Typed,
            (Some(data), _) => Input::Json(Place::of(data)),
            (_, Some(data)) => match Place::of(data) {
                Place::Text(_) => return Err("--data-binary takes @FILE or @-".to_owned()),
                place => Input::Binary(place),
            },
            (None, None) => Input::Nothing,
        };
        if self.repeat > 1 && !input.is_repeatable() {
            return Err(
                "--repeat sends the same messages again, but typed or piped input can be read only once"
                    .to_owned(),
            );
        }
        Ok(input)
    }

    fn names(&self) -> Names {
        if self.proto_names { Names::Proto } else { Names::Json }
    }

    fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for header in &self.headers {
            match header.clone() {
                Header::Ascii(key, value) => drop(metadata.append(key, value)),
                Header::Binary(key, value) => drop(metadata.append_bin(key, value)),
            }
        }
        metadata
    }

    /// The service or whatever else the schema has to have, and the method, if one is
    /// to be called.
    fn wanted(&self) -> Option<(&str, Option<&str>)> {
        let symbol = self.symbol.as_deref()?.trim_start_matches('/');
        Some(symbol.split_once('/').map_or((symbol, None), |(service, method)| (service, Some(method))))
    }

    /// From files, if there are any.
    fn schema_of_files(&self) -> Result<Option<Schema>, Failure> {
        let schema = match &self.descriptors {
            Some(file) => Schema::read(file),
            None if self.proto.is_empty() => return Ok(None),
            None => Schema::compile(&self.proto, &self.includes),
        };
        schema.map(Some).map_err(|error| Failure::unfit(error, "correct the file, or use reflection"))
    }
}
