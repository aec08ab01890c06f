//! Decides which web pages may call, from the browsers of their visitors.
//!
//! A browser sends the requests of any page, from inside a network that the page could
//! not reach, and with its user's certificate. It marks them with headers that no
//! script can change: `Origin` and `Sec-Fetch-*`. A call without these headers is not
//! checked.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use super::{around::Request, web::NoCall};
use crate::connection::Connection;

pub(super) struct Pages {
    /// In addition to the server's own origin; `*` means all.
    pub(super) origins: Vec<HeaderValue>,
    /// In addition to the loopback names and the address that the browser connected to;
    /// `*` means all.
    pub(super) hosts: Vec<String>,
}

impl Pages {
    /// Whether a page makes this call.
    pub(super) fn make(headers: &HeaderMap) -> bool {
        // Node's `fetch` sends only this one. A browser sends `Origin` with it.
        let is_node = |name: &HeaderName, value| name == "sec-fetch-mode" && value == "cors";
        headers.iter().any(|(name, value)| {
            name == ORIGIN || (name.as_str().starts_with("sec-fetch-") && !is_node(name, value))
        })
    }

    /// Whether the page may make this call.
    pub(super) fn may_make(&self, request: &Request) -> Result<(), NoCall> {
        let headers = request.headers();
        let by_header = || headers.get(HOST)?.to_str().ok()?.parse().ok();
        let host: Authority = request.uri().authority().cloned().or_else(by_header).ok_or(NoCall::Host)?;
        let is_host =
            |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| host == *authority);
        let is_let_in = match headers.get(ORIGIN) {
            Some(origin) if self.origins.iter().any(|it| it == "*" || it == origin) => true,
            Some(origin) => origin.to_str().is_ok_and(is_host),
            None => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
        };
        let connection = Connection::of(request.extensions());
        match is_let_in {
            false => Err(NoCall::Origin),
            // With a name that temporarily resolves to this server (DNS rebinding), any
            // page has the server's own origin.
            true if !self.is_own(host.host(), connection.map(|it| &**it)) => Err(NoCall::Host),
            true => Ok(()),
        }
    }

    fn is_own(&self, host: &str, connection: Option<&Connection>) -> bool {
        let local = connection.and_then(|connection| connection.local);
        let is_own_address = |address: IpAddr| {
            address.is_loopback()
                || local.is_some_and(|local| local.ip().to_canonical() == address.to_canonical())
        };
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse().is_ok_and(is_own_address)
            || self.hosts.iter().any(|own| own == "*" || own.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    #[test]
    fn an_address_is_its_own_when_it_is_that_of_the_connection() {
        let pages = Pages { origins: Vec::new(), hosts: Vec::new() };
        for local in ["192.0.2.1:50051", "[::ffff:192.0.2.1]:50051"] {
            let local = Some(local.parse().unwrap());
            let connection = Connection { number: 1, peer: None, local, tls: OnceLock::new() };
            assert!(pages.is_own("192.0.2.1", Some(&connection)), "{local:?}");
            assert!(!pages.is_own("192.0.2.2", Some(&connection)), "{local:?}");
            assert!(!pages.is_own("192.0.2.1", None));
        }
    }
}
