//! What to change: in words, and by the names of the settings where the path has shown which product stands on it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, StatusCode, header};

pub(crate) const NAME: &str = "check the spelling, and query the resolver directly (`getent hosts NAME`)";
pub(crate) const LISTEN: &str = "accept HTTP/2 on the port that receives gRPC";
pub(crate) const HTTP2: &str = "speak HTTP/2 to the server";
pub(crate) const BUFFERING: &str = "forward data at once, in both directions: turn buffering off";
pub(crate) const END: &str = "forward the end of a response while the request is open";
pub(crate) const BACKPRESSURE: &str = "limit buffers on the path, and read only as fast as data is forwarded";
pub(crate) const BODY: &str = "raise the limit for the size of a body: a stream is one body";
pub(crate) const MESSAGE: &str =
    "raise the limit for a message, in the server (Four Modes: `--max-message`) and on the path";
pub(crate) const HEADERS: &str = "raise the limit for the size of headers";
pub(crate) const IDLE: &str = "raise the idle timeout for streams, on the path and in the server (Four Modes: `--idle-timeout`), or \
    send heartbeats on quiet streams";
pub(crate) const STREAMS: &str =
    "raise the limit for concurrent streams of a connection, or use several connections";
pub(crate) const RESET: &str =
    "read the log of the proxy at this time, and look for what ends its streams: timeouts, limits, a restart";
pub(crate) const UPSTREAM: &str = "check that the proxy reaches the server, and by HTTP/2";
pub(crate) const RATE: &str = "raise the rate limit for calls";
pub(crate) const UPSTREAM_OR_RATE: &str =
    "check that the proxy reaches the server, and by HTTP/2; or raise the rate limit for calls";
pub(crate) const CREDENTIALS: &str =
    "give the proxy its credentials (FOURMODES_TOKEN is sent as a bearer token), or exempt gRPC";
pub(crate) const REDIRECT: &str = "use the address that it redirects to, or exempt gRPC from the redirect";
pub(crate) const ROUTE: &str = "route the services' paths (`/PACKAGE.SERVICE/`) to the server";
pub(crate) const TRAILERS: &str = "forward trailers, which needs HTTP/2 on every hop";
pub(crate) const STATUS: &str =
    "forward the server's status: no error pages and no answers of the proxy itself";
pub(crate) const METADATA: &str = "forward metadata unchanged";
pub(crate) const DEADLINE: &str = "forward `grpc-timeout` unchanged, and set no deadline in the proxy";
pub(crate) const CANCEL: &str = "forward cancels to the server, so that abandoned calls end";
pub(crate) const CALM: &str = "send PINGs less often, or allow them: in a server of gRPC's C core \
    `GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`, in Go `keepalive.EnforcementPolicy`, in Java \
    `permitKeepAliveTime`";
pub(crate) const GOAWAY: &str = "close connections gracefully: with GOAWAY, and after their calls";
pub(crate) const BALANCE: &str = "balance calls and not connections, or balance in the client (round_robin)";
pub(crate) const INSTANCES: &str = "remove the instance that does not answer from the pool";
pub(crate) const COMPRESSION: &str = "forward `grpc-encoding` and `grpc-accept-encoding`";
pub(crate) const WEB: &str = "for browsers, accept HTTP/1.1 and translate gRPC-Web; if the server itself speaks gRPC-Web, forward \
    HTTP/1.1 to it";
pub(crate) const HTTP1: &str =
    "if a load balancer checks health by HTTP/1.1, give it a port that answers, or let it check by gRPC";
pub(crate) const SLOW: &str =
    "look for the slow hop (`traceroute`), and for a hop that waits before it sends";
pub(crate) const SERVICE: &str = "serve it, or route it: its paths begin with `/grpc.`";
pub(crate) const AGE: &str =
    "raise the maximum age of calls, in the proxy and in the server (Four Modes: `--max-stream-age`)";
pub(crate) const NOBODY: &str =
    "check that a server runs behind it, and whether the port wants TLS (https://)";
pub(crate) const LIMIT: &str = "raise the limit in the server (`fourmodes-server --help`, \"Limits\")";
pub(crate) const ALPN: &str = "agree on HTTP/2 by ALPN";
pub(crate) const TRAILERS_ONLY: &str = "forward headers that end their stream as such, with END_STREAM";
pub(crate) const EMPTY_DATA: &str = "build clients with h2 outside of 0.4.16 to 0.4.20, or remove the hop that adds an empty DATA frame to \
    each answer";
pub(crate) const FORGOTTEN: &str = "send something more often than its timeout: keepalive PINGs in the clients (`keepalive_time`), TCP \
    keepalive, or heartbeats; or raise its timeout for idle connections";
pub(crate) const RULES: &str = "reject it in the server, or before it: 415 for a content type that is not gRPC, 405 for a method other \
    than POST, UNIMPLEMENTED for a unary call without exactly one message";
pub(crate) const CANCELS: &str = "raise the limit for cancels, or let clients cancel fewer calls at once";
pub(crate) const WINDOWS: &str = "make the window of a connection to the server much larger than the window of a stream, or open more \
    connections to it";

/// By remedy, a line for each product.
const SETTINGS: &str = include_str!("../settings.md");

/// What a product leaves in the head of its answers: a header, and a part of its value.
const MARKS: [(&str, &str, &str); 22] = [
    ("server", "nginx", "nginx"),
    ("server", "openresty", "nginx"),
    ("server", "envoy", "Envoy"),
    ("server", "istio-envoy", "Istio"),
    ("server", "Caddy", "Caddy"),
    ("via", "Caddy", "Caddy"),
    ("server", "nghttpx", "nghttpx"),
    ("via", "nghttpx", "nghttpx"),
    ("server", "Apache", "Apache"),
    ("server", "ATS/", "Traffic Server"),
    ("via", "ApacheTrafficServer", "Traffic Server"),
    ("server", "h2o", "h2o"),
    ("server", "lighttpd", "lighttpd"),
    ("via", "varnish", "Varnish"),
    ("x-varnish", "", "Varnish"),
    ("server", "mitmproxy", "mitmproxy"),
    ("sozu-id", "", "Sōzu"),
    ("server", "Pingora", "Pingora"),
    ("server", "awselb", "AWS ALB"),
    ("via", "google", "Google's balancer"),
    ("server", "cloudflare", "Cloudflare"),
    ("cf-ray", "", "Cloudflare"),
];

/// The products that have left a mark in the head of an answer.
fn products(status: StatusCode, head: &HeaderMap) -> impl Iterator<Item = &'static str> {
    let is = |name: &str, part: &str| {
        head.get_all(name).iter().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(part))
    };
    // Its pages have neither a name nor a date.
    let of_haproxy = status.as_u16() >= 400
        && is("cache-control", "no-cache")
        && is("content-type", "text/html")
        && ![header::SERVER, header::DATE, header::VIA].iter().any(|name| head.contains_key(name));
    let marks = MARKS.into_iter().filter(move |(name, part, _)| is(name, part)).map(|(.., product)| product);
    marks.chain(of_haproxy.then_some("HAProxy"))
}

/// The products that have shown themselves on a path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Products(Arc<Mutex<BTreeSet<&'static str>>>);

impl Products {
    pub(crate) fn see(&self, status: StatusCode, head: &HeaderMap) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(products(status, head));
    }

    /// The remedy with the settings of those that were seen.
    pub(crate) fn settings_for(&self, remedy: &str) -> String {
        let section = SETTINGS.split("\n## ").find_map(|it| it.strip_prefix(remedy)?.strip_prefix('\n'));
        let setting = |product: &&str| {
            let mut lines = section?.lines().filter_map(|line| line.strip_prefix("- "));
            lines.find(|line| {
                let rest = line.strip_prefix(product).unwrap_or_default();
                rest.starts_with(": ") || rest.starts_with(" (not tried): ")
            })
        };
        let products = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settings: Vec<_> = products.iter().filter_map(setting).collect();
        match settings.is_empty() {
            true => remedy.to_owned(),
            false => format!("{remedy}. {}", settings.join(". ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, head: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let head = head.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        products(StatusCode::from_u16(status).unwrap(), &head).collect()
    }

    #[test]
    fn a_product_is_named_where_it_shows_itself() {
        assert_eq!(of(200, &[("server", "nginx/1.22.1")]), ["nginx"]);
        assert_eq!(of(200, &[("server", "istio-envoy")]), ["Envoy", "Istio"]);
        assert_eq!(of(200, &[("via", "http/1.1 edge (ApacheTrafficServer [cMsSf ])")]), ["Traffic Server"]);
        let page = [("cache-control", "no-cache"), ("content-type", "text/html")];
        assert_eq!(of(503, &page), ["HAProxy"]);
        assert_eq!(of(503, &[page[0], page[1], ("date", "now")]), Vec::<&str>::new());
        assert_eq!(of(200, &[("content-type", "application/grpc")]), Vec::<&str>::new());
    }

    #[test]
    fn a_remedy_has_the_settings_of_what_stands_on_the_path_alone() {
        let with = |products: &[&'static str]| {
            Products(Arc::new(Mutex::new(products.iter().copied().collect()))).settings_for(HTTP2)
        };
        assert_eq!(with(&[]), HTTP2);
        assert_eq!(with(&["hitch"]), HTTP2);
        assert_eq!(
            with(&["nginx", "AWS ALB"]),
            "speak HTTP/2 to the server. AWS ALB (not tried): a target group with protocol version GRPC. \
             nginx: `grpc_pass` instead of `proxy_pass`"
        );
    }

    #[test]
    fn every_heading_is_a_remedy_and_every_product_can_be_known() {
        // As it is without the ends of lines in its strings.
        let source = include_str!("remedies.rs").replace("\\\n    ", "");
        // They show themselves by a check that fails before they could.
        let silent = [
            "hitch",
            "stunnel",
            "AWS NLB",
            "Azure's balancer",
            "Linux",
            "HAProxy",
            "Traefik",
            "Go's ReverseProxy",
            "Node",
        ];
        for section in SETTINGS.split("\n## ").skip(1) {
            let (remedy, lines) = section.split_once('\n').unwrap();
            assert!(source.contains(&format!("\"{remedy}\"")), "no remedy is worded {remedy:?}");
            for line in lines.lines().filter(|line| !line.is_empty()) {
                let product = line.strip_prefix("- ").and_then(|line| line.split_once(": ")).unwrap().0;
                let product = product.trim_end_matches(" (not tried)");
                let is_known = MARKS.iter().any(|(.., known)| *known == product) || silent.contains(&product);
                assert!(is_known, "{product} cannot be known");
            }
        }
    }
}
