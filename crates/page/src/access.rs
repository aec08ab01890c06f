//! Access control of the page.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName,
    header::{COOKIE, HOST, ORIGIN},
};

const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// A name that another server on this host is unlikely to use.
pub(crate) const TOKEN_COOKIE: &str = "fourmodes-page";

/// The host names and the token that give access to the page.
#[derive(Debug, Clone)]
pub struct Access {
    hosts: Vec<String>,
    token: Option<String>,
}

impl Access {
    /// For a page at `address`. There is no token on the loopback interface, because
    /// only this machine can connect.
    pub fn to(address: SocketAddr, names: &[String]) -> Self {
        let own = address.ip();
        let own = if own.is_ipv6() { format!("[{own}]") } else { own.to_string() };
        let hosts = LOCAL.iter().map(ToString::to_string).chain([own]).chain(names.iter().cloned());
        let token = || (0..32).map(|_| fastrand::alphanumeric()).collect();
        Self { hosts: hosts.collect(), token: (!address.ip().is_loopback()).then(token) }
    }

    /// The address to give to people.
    pub fn url(&self, address: SocketAddr) -> String {
        match &self.token {
            Some(token) => format!("http://{address}/?token={token}"),
            None => format!("http://{address}/"),
        }
    }

    /// Why a request is refused: it comes from a page of another site, under its own
    /// name or under a name that it made resolve to this host (DNS rebinding).
    pub(crate) fn refusal(&self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(host) = text(HOST) else { return Some("the request has no Host") };
        if !self.hosts.iter().any(|name| name.eq_ignore_ascii_case(without_port(host))) {
            return Some("this name is not allowed for the page");
        }
        match text(ORIGIN) {
            Some(origin) if origin.strip_prefix("http://") != Some(host) => {
                Some("pages of other origins are not allowed")
            }
            None if headers.contains_key(ORIGIN) => Some("pages of other origins are not allowed"),
            _ => None,
        }
    }

    /// Whether `given` is the token. The time that this takes does not depend on how much of
    /// it is right.
    pub(crate) fn is_token(&self, given: &str) -> bool {
        let hash = |text: &str| blake3::hash(text.as_bytes());
        self.token.as_ref().is_some_and(|token| hash(token) == hash(given))
    }

    /// Whether the request has the token, if one is required.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            cookies.flat_map(|value| value.split("; ")).filter_map(|cookie| cookie.split_once('='));
        self.token.is_none() || cookies.any(|(name, value)| name == TOKEN_COOKIE && self.is_token(value))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}
