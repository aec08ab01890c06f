//! `call`: any method of any server, by descriptors that are found when it runs.

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

use self::{
    input::{Input, Place},
    run::Run,
};
use crate::{
    config::Config,
    failure::Failure,
    options::Options,
    stop::stop,
    values::{duration, trimmed},
};

/// Call any method of any gRPC server, or show what it has
///
/// Without a method it lists the services, or shows one of them, or a message. What is in
/// the messages comes from the server's reflection, or from --proto or --descriptors.
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The server: host:port without TLS, https://host[:port], or unix:///path
    #[arg(value_parser = trimmed)]
    target: String,
    /// What to call, as package.Service/Method; or what to show: a service or a message
    #[arg(value_name = "SERVICE[/METHOD]", value_parser = trimmed)]
    symbol: Option<String>,
    /// The message as JSON, several one after the other, or @FILE, or @- for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true, conflicts_with_all = ["data_binary", "interactive"])]
    data: Option<String>,
    /// Encoded messages, each after a zero and its length in four bytes, as gRPC has them
    #[arg(long, value_name = "@FILE", conflicts_with = "interactive")]
    data_binary: Option<String>,
    /// Type messages, a line each; Ctrl-D ends them
    #[arg(long)]
    interactive: bool,
    /// Wait so long between messages
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pace: Option<Duration>,
    /// Do not end the messages, until the server ends the call or Ctrl-C does
    #[arg(long)]
    keep_open: bool,
    /// Make the call N times, one after the other, and stop at the first that fails
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), hide_default_value = true)]
    repeat: u64,
    /// Metadata to send, such as 'key: value'; the value of a -bin key in base64
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header, allow_hyphen_values = true)]
    headers: Vec<Header>,
    /// The name of the server in the call and in its certificate, instead of its host
    #[arg(long, value_name = "NAME")]
    authority: Option<Authority>,
    /// Compress what is sent
    #[arg(long, value_name = "ENCODING")]
    compress: Option<Compression>,
    /// The longest message to take
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = shared_process::bytes)]
    max_message: u64,
    /// Take every certificate of the server: anybody can be it then
    #[arg(long)]
    insecure_skip_verify: bool,
    /// A proto source with the service, instead of reflection; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "descriptors")]
    proto: Vec<PathBuf>,
    /// Where --proto finds imports; may be given several times
    #[arg(short = 'I', long = "include", value_name = "DIR", requires = "proto")]
    includes: Vec<PathBuf>,
    /// A descriptor set of protoc or buf with the service, instead of reflection
    #[arg(long, value_name = "FILE.binpb")]
    descriptors: Option<PathBuf>,
    /// Show JSON of the request to fill in, and call nothing
    #[arg(long)]
    template: bool,
    /// Name fields as in the proto, not in lowerCamelCase
    #[arg(long)]
    proto_names: bool,
    /// Also show headers and trailers
    #[arg(short, long)]
    verbose: bool,
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
        let ended = run.finish(ended.map_err(|failure| Failure { is_foreign: true, ..failure }));
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
                "--repeat sends the same again, and what is typed or piped can be read once only".to_owned()
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
