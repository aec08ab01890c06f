//! Which methods a server has.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{CodecError, Incoming, Message, Transport, encode};
use crate::gob::{self, Type};

/// The encoded reply, or the text of the error.
pub(crate) type Reply = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;
type Start = dyn Fn(&mut Incoming, &Message, Transport) -> Result<Reply, CodecError> + Send + Sync;

/// Methods by name: `Service.Method`.
#[derive(Default)]
pub struct Registry {
    methods: HashMap<String, Method>,
    services: HashSet<String>,
}

pub(crate) struct Method {
    /// Of the reply.
    pub(crate) reply: Type,
    pub(crate) start: Box<Start>,
}

/// A method that cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name has no dot, or nothing before or after it.
    #[error("{0} is not a method name; write Service.Method")]
    Name(String),
    /// Another method has this name.
    #[error("rpc: service already defined: {0}")]
    Taken(String),
    /// gob has no such type.
    #[error("{name}: the type of its {which}: {error}")]
    Type {
        /// The method.
        name: String,
        /// `argument` or `reply`.
        which: &'static str,
        /// What gob says.
        error: gob::Error,
    },
}

impl Registry {
    /// A registry without methods.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method. What it returns as an error, the client gets as text. Each call is a task of its
    /// own: a connection that ends drops the calls that are open, at an await.
    ///
    /// # Errors
    /// The name is none or taken, or gob has no such type.
    pub fn register<A, R, E, F>(
        &mut self,
        name: &str,
        method: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Result<(), RegisterError>
    where
        A: DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: Display,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let service = match name.rsplit_once('.') {
            Some((service, method)) if !service.is_empty() && !method.is_empty() => service,
            _ => return Err(RegisterError::Name(name.to_owned())),
        };
        if self.methods.contains_key(name) {
            return Err(RegisterError::Taken(name.to_owned()));
        }
        let type_error = |which| move |error| RegisterError::Type { name: name.to_owned(), which, error };
        let args = Type::of::<A>().map_err(type_error("argument"))?;
        let reply = Type::of::<R>().map_err(type_error("reply"))?;
        let ty = reply.clone();
        let start = move |incoming: &mut Incoming, message: &Message, transport| {
            let reply = method(incoming.decode(message, &args)?);
            let ty = ty.clone();
            let encoded = async move {
                let reply = reply.await.map_err(|error| error.to_string())?;
                encode(transport, &ty, &reply).map_err(|error| error.to_string())
            };
            Ok(Box::pin(encoded) as Reply)
        };
        self.services.insert(service.to_owned());
        self.methods.insert(name.to_owned(), Method { reply, start: Box::new(start) });
        Ok(())
    }

    /// The method, or Go's text about a name that is none.
    pub(crate) fn get(&self, name: &str) -> Result<&Method, String> {
        if let Some(method) = self.methods.get(name) {
            return Ok(method);
        }
        Err(match name.rsplit_once('.') {
            None => format!("rpc: service/method request ill-formed: {name}"),
            Some((service, _)) if !self.services.contains(service) => {
                format!("rpc: can't find service {name}")
            }
            Some(_) => format!("rpc: can't find method {name}"),
        })
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.methods.keys()).finish()
    }
}
