//! A service of anybody's: how its server is reached, and what describes it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use clap::Args;
use http::uri::Authority;
use schema::{Reflection, ReflectionError, Schema};
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};
use transport::Channel;

use crate::{config::Config, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct Service {
    /// Metadata to send, such as 'key: value'; values of -bin keys in base64
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header, allow_hyphen_values = true)]
    headers: Vec<Header>,
    /// Server name for the call and the certificate, in place of the host
    #[arg(long, value_name = "NAME")]
    authority: Option<Authority>,
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
    value.set_sensitive(grpc_wire::is_secret(&key));
    Ok(Header::Ascii(name, value))
}

/// The metadata in lines such as `key: value`.
pub(super) fn metadata(lines: &str) -> Result<MetadataMap, String> {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    Ok(collected(lines.map(header).collect::<Result<Vec<_>, _>>()?))
}

fn collected(headers: impl IntoIterator<Item = Header>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for header in headers {
        match header {
            Header::Ascii(key, value) => drop(metadata.append(key, value)),
            Header::Binary(key, value) => drop(metadata.append_bin(key, value)),
        }
    }
    metadata
}

impl Service {
    /// The server at `target`, as the options want to reach it.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) fn config(&self, target: &str, options: crate::options::Options) -> Result<Config, String> {
        let mut config = Config::of_any_server(target, options)?;
        config.connector.authority.clone_from(&self.authority);
        config.connector.tls.unverified = self.insecure_skip_verify;
        if self.insecure_skip_verify {
            let warning = "warning: the certificate of the server is not verified (--insecure-skip-verify)\n";
            // Without a stderr nobody is there to be warned.
            let _ = io::stderr().write_all(warning.as_bytes());
        }
        Ok(config)
    }

    pub(crate) fn metadata(&self) -> MetadataMap {
        collected(self.headers.iter().cloned())
    }

    /// From files, if there are any.
    pub(crate) fn schema_of_files(&self) -> Result<Option<Schema>, Failure> {
        let schema = match &self.descriptors {
            Some(file) => Schema::read(file),
            None if self.proto.is_empty() => return Ok(None),
            None => Schema::compile(&self.proto, &self.includes),
        };
        schema.map(Some).map_err(|error| Failure::unfit(error, "correct the file, or use reflection"))
    }

    /// The server's own words of what it has.
    pub(crate) fn reflection(&self, channel: Channel) -> Reflection<Channel> {
        Reflection::new(channel, self.metadata())
    }
}

/// The service or whatever else the schema has to have, and the method, if there is
/// one.
pub(crate) fn wanted(symbol: &str) -> (&str, Option<&str>) {
    let symbol = symbol.trim_start_matches('/');
    let (service, method) = symbol.split_once('/').unwrap_or((symbol, ""));
    // What a shell completes up to the slash is a service.
    (service, Some(method).filter(|method| !method.is_empty()))
}

pub(crate) const LIST: &str = "the address alone lists the services; a service after it shows its methods";

pub(crate) fn reflected(error: ReflectionError) -> Failure {
    match error {
        ReflectionError::Status(status) => status.into(),
        ReflectionError::Schema(schema::Error::Unknown(unknown)) => Failure::unfit(unknown, LIST),
        ReflectionError::Off => {
            Failure::unfit(error, "describe the service by --proto FILE [-I DIR] or --descriptors FILE")
        }
        error => Failure::unfit(
            error,
            "describe the service by --proto FILE [-I DIR] or --descriptors FILE instead",
        ),
    }
}
