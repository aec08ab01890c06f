//! Protobuf schemas at run time, for calls to services that were not there when this
//! program was built.
//!
//! A [`Schema`] comes from a server's [`Reflection`], from [sources](Schema::compile) or
//! from a [descriptor set](Schema::read). It finds methods, shows itself as
//! [proto text](Schema::text) and makes [templates](template::template). [`json`] turns
//! JSON into messages and back.
//!
//! A peer chooses its descriptors. Whatever it sends is an error or a schema, and never a
//! panic.

mod edition;
mod file;
pub mod json;
mod pool;
mod reflection;
mod source;
pub mod template;
mod text;

use std::{collections::HashMap, path::PathBuf};

use prost::DecodeError;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::SourceCodeInfo;

pub use crate::reflection::{Reflection, ReflectionError};

/// What services there are, and what is in their messages.
#[derive(Debug, Clone)]
pub struct Schema {
    pool: DescriptorPool,
    /// By the name of the file.
    comments: HashMap<String, SourceCodeInfo>,
    /// The files that were asked for, without what they import.
    own: Vec<String>,
}

/// Why there is no schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// Which one.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A source does not compile. The text begins with `file:line:column`, where known.
    #[error("{0}")]
    Source(String),
    /// A source is in an edition, which the compiler here does not know.
    #[error("{0}")]
    SourceInEdition(String),
    /// Bytes are no descriptors.
    #[error("this is not a descriptor set: {0}")]
    NotDescriptors(DecodeError),
    /// Descriptors contradict themselves.
    #[error("the descriptors of {file} are wrong: {reason}")]
    Invalid {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Descriptors do not fit each other.
    #[error("the descriptors are inconsistent: {0}")]
    Unfit(String),
    /// A name that nothing has.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// A name that nothing has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}{}", suggestion(.nearest))]
pub struct Unknown {
    /// What it would be.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// Names that are there and look like it, the nearest first.
    pub nearest: Vec<String>,
}

impl Unknown {
    /// With the nearest of those names that are there.
    pub fn among(what: &'static str, name: &str, there: impl IntoIterator<Item = String>) -> Self {
        const FAR: f64 = 0.6;
        const FEW: usize = 3;
        let (nearest, there): (Vec<_>, Vec<_>) = there.into_iter().partition(|there| is_end(there, name));
        if !nearest.is_empty() {
            return Self { what, name: name.to_owned(), nearest };
        }
        let last = |name: &str| name.rsplit(['.', '/']).next().unwrap_or_default().to_lowercase();
        let alike =
            |a: &str, b: &str| strsim::jaro_winkler(a, b).max(strsim::normalized_damerau_levenshtein(a, b));
        let mut near: Vec<_> = there
            .into_iter()
            .map(|there| {
                let whole = alike(&name.to_lowercase(), &there.to_lowercase());
                (whole.max(alike(&last(name), &last(&there))), there)
            })
            .filter(|(likeness, _)| *likeness >= FAR)
            .collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let nearest = near.into_iter().take(FEW).map(|(_, candidate)| candidate).collect();
        Self { what, name: name.to_owned(), nearest }
    }
}

/// Whether a name is that of `there` without its package, or the end of its package.
fn is_end(there: &str, name: &str) -> bool {
    there.strip_suffix(name).is_some_and(|package| package.ends_with('.'))
}

/// The full name of a service that is named without its package, if only one has that name.
fn only(name: &str, services: impl IntoIterator<Item = String>) -> Option<String> {
    let mut meant = services.into_iter().filter(|there| is_end(there, name));
    meant.next().filter(|_| meant.next().is_none())
}

fn suggestion(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        nearest => format!("; did you mean {}?", nearest.join(" or ")),
    }
}

/// The path of a method in a request.
pub fn path_of(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

impl Schema {
    /// The descriptors.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The services in what was asked for.
    pub fn services(&self) -> impl Iterator<Item = ServiceDescriptor> {
        let is_own =
            |service: &ServiceDescriptor| self.own.iter().any(|own| own == service.parent_file().name());
        self.pool.services().filter(is_own)
    }

    /// Of this name. The package may be left out when only one service has that name.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or several.
    pub fn service(&self, name: &str) -> Result<ServiceDescriptor, Unknown> {
        let names = || self.services().map(|service| service.full_name().to_owned());
        let by_name = |name: &str| self.pool.get_service_by_name(name);
        by_name(name)
            .or_else(|| by_name(&only(name, names())?))
            .ok_or_else(|| Unknown::among("service", name, names()))
    }

    /// # Errors
    ///
    /// When there is none of that name.
    pub fn message(&self, name: &str) -> Result<MessageDescriptor, Unknown> {
        self.pool.get_message_by_name(name).ok_or_else(|| {
            Unknown::among(
                "message",
                name,
                self.pool.all_messages().map(|message| message.full_name().to_owned()),
            )
        })
    }

    /// # Errors
    ///
    /// When there is none of that name.
    pub fn method(&self, service: &str, method: &str) -> Result<MethodDescriptor, Unknown> {
        let service = self.service(service)?;
        service.methods().find(|candidate| candidate.name() == method).ok_or_else(|| {
            let names = service.methods().map(|method| method.name().to_owned());
            Unknown::among("method", method, names)
        })
    }
}
