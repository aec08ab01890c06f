//! What to change, by the names of the settings. A product that is not named has
//! no setting for it, or none that is known here.

pub(crate) const NAME: &str = "check the spelling, and ask the resolver by itself (`getent hosts NAME`)";

pub(crate) const LISTEN: &str = "let HTTP/2 in: `listen … http2` (or `http2 on`) in nginx, `alpn h2` on the `bind` \
    line (without TLS `proto h2`) in HAProxy, `codec_type` AUTO or HTTP2 in Envoy, `protocols h1 h2 h2c` in Caddy, \
    a listener by HTTPS in AWS ALB";

pub(crate) const NOBODY: &str = "look whether a server stands behind it: the target group of AWS ALB and NLB, the \
    `upstream` of nginx, the `backend` of HAProxy, the cluster of Envoy; or whether the port wants TLS (https://)";

pub(crate) const LIMIT: &str = "raise the limit in the server (`fourmodes-server --help`, \"Limits\")";

pub(crate) const ALPN: &str = "agree on HTTP/2 by ALPN: `alpn h2` on the `bind` line in HAProxy, `http2 on` in nginx, \
    `alpn_protocols: [h2]` in Envoy, `ALPNPolicy` HTTP2Only of a listener by TLS in AWS NLB";

pub(crate) const TRAILERS_ONLY: &str = "have the proxy pass a head that ends its stream on as that, with END_STREAM: a \
    newer version of it may, and HTTP/2 to the server does in most";

pub(crate) const EMPTY_DATA: &str = "build clients on h2 outside 0.4.16 to 0.4.20, or take out the proxy that sends an \
    empty DATA frame with each answer";

pub(crate) const FORGOTTEN: &str = "send something before it forgets: keepalive PINGs in the clients (`keepalive_time` \
    below that time), TCP keepalive, or a message now and then; or raise its timeout for idle connections (350 s in \
    AWS NLB, 4 minutes in Azure's balancer, `nf_conntrack_tcp_timeout_established` in Linux)";

pub(crate) const RULES: &str = "refuse it in the server, or before it: 415 for a content type that is none of gRPC, 405 \
    for a method other than POST, UNIMPLEMENTED for a unary call without one message";

pub(crate) const CANCELS: &str = "raise what bounds cancels, or have clients cancel less at once: in servers on h2 \
    `http2_max_pending_accept_reset_streams`, in nginx `keepalive_requests` and \
    `http2_max_concurrent_streams`, in Envoy `premature_reset_total_stream_count` (a runtime setting of \
    overload), in HAProxy `tune.h2.fe.glitches-threshold`";

pub(crate) const HTTP2: &str = "speak HTTP/2 to the server: `grpc_pass` instead of `proxy_pass` in nginx, \
    `http2_protocol_options` on the cluster in Envoy, `proto h2` (with TLS `alpn h2`) on the `server` line in \
    HAProxy, an `h2c://` upstream or `versions h2c 2` in Caddy, a target group with protocol version GRPC in AWS ALB";

pub(crate) const BUFFERING: &str = "pass on at once what comes: `grpc_pass` instead of `proxy_pass` in nginx, no \
    `envoy.filters.http.buffer` on the route in Envoy, no `option http-buffer-request` and no `wait-for-body` in \
    HAProxy, no `request_buffers` and no `response_buffers` in Caddy, a target group with \
    protocol version GRPC in AWS ALB";

pub(crate) const BACKPRESSURE: &str = "bound what is kept on the way: `grpc_pass` (or `proxy_buffering off` and \
    `proxy_request_buffering off`) in nginx, `per_connection_buffer_limit_bytes` and no \
    `envoy.filters.http.buffer` in Envoy, `tune.bufsize` in HAProxy, no `request_buffers` or `response_buffers` \
    in Caddy";

pub(crate) const BODY: &str = "raise what limits a body: `client_max_body_size 0` in nginx, \
    `max_request_bytes` of `envoy.filters.http.buffer` in Envoy, `request_body max_size` in Caddy";

pub(crate) const MESSAGE: &str = "raise what limits a message, in the server (`--max-message` of ours) and on \
    the way: `client_max_body_size` in nginx, `max_request_bytes` of `envoy.filters.http.buffer` in Envoy, \
    `request_body max_size` in Caddy";

pub(crate) const HEADERS: &str = "raise what limits headers: `large_client_header_buffers` for requests and \
    `grpc_buffer_size` for responses in nginx, `max_request_headers_kb` in Envoy, `tune.bufsize` and \
    `tune.http.maxhdr` in HAProxy, `max_header_size` in Caddy; in AWS ALB the limits are fixed";

pub(crate) const IDLE: &str = "raise what ends silent streams: `grpc_read_timeout`, `grpc_send_timeout` and \
    `client_body_timeout` in nginx, `stream_idle_timeout` and the route's `timeout: 0s` in Envoy, `timeout client` \
    and `timeout server` in HAProxy, the idle timeout of AWS ALB, `--idle-timeout` of our server; or let the stream say something now and then";

pub(crate) const STREAMS: &str = "raise what limits streams: `http2_max_concurrent_streams` in nginx, \
    `max_concurrent_streams` and the cluster's circuit breaker `max_requests` in Envoy, \
    `tune.h2.max-concurrent-streams` in HAProxy; in AWS ALB it is 128; or use several connections";

pub(crate) const RESET: &str = "look at the log of the proxy at this time, and at what ends its streams: \
    `grpc_read_timeout`, `grpc_send_timeout` and `client_max_body_size` in nginx, the route's `timeout` and \
    `max_stream_duration` in Envoy, `timeout server` in HAProxy";

pub(crate) const UPSTREAM: &str = "look whether the proxy reaches the server, and by HTTP/2: `grpc_pass grpc://…` \
    in nginx, `http2_protocol_options` on the cluster in Envoy, `proto h2` on the `server` line in HAProxy, an \
    `h2c://` upstream in Caddy, protocol version GRPC of the target group in AWS ALB";

/// What limits the rate of calls, by its settings.
macro_rules! rate {
    () => {
        "raise what limits the rate of calls: `limit_req` and `limit_conn` in nginx, \
         `envoy.filters.http.local_ratelimit` in Envoy, a `deny` by a stick table in HAProxy, the rate rules of AWS WAF"
    };
}

pub(crate) const RATE: &str = rate!();

pub(crate) const UPSTREAM_OR_RATE: &str = concat!(
    "look whether the proxy reaches the server, and by HTTP/2 (`grpc_pass grpc://…` in nginx, `proto h2` on the \
     `server` line in HAProxy, an `h2c://` upstream in Caddy); or ",
    rate!()
);

pub(crate) const CREDENTIALS: &str = "give the proxy what it asks for (FOURMODES_TOKEN goes along as a bearer token), \
    or have it let gRPC pass without: `auth_basic off` in nginx, no `http-request auth` in HAProxy, no `basic_auth` in \
    Caddy";

pub(crate) const REDIRECT: &str = "name the address that it redirects to, or let gRPC pass there: no `return 301` \
    before `grpc_pass` in nginx, no `http-request redirect` in HAProxy, no `redir` in Caddy";

pub(crate) const TRAILERS: &str = "pass trailers on, which takes HTTP/2 on every hop: `grpc_pass` instead of \
    `proxy_pass` in nginx, `http2_protocol_options` on the cluster in Envoy, `proto h2` on the `server` line in \
    HAProxy, an `h2c://` upstream in Caddy, protocol version GRPC of the target group in AWS ALB";

pub(crate) const STATUS: &str = "leave the status to the server: no `error_page` or `grpc_intercept_errors on` in \
    nginx, no `local_reply_config` in Envoy, no `http-response set-status` or `errorfile` in HAProxy, no \
    `handle_response` in Caddy";

pub(crate) const METADATA: &str = "let metadata pass: `underscores_in_headers on`, `ignore_invalid_headers off` and \
    no `grpc_set_header` or `grpc_hide_header` for it in nginx, no `request_headers_to_remove` or \
    `response_headers_to_remove` and `headers_with_underscores_action: ALLOW` in Envoy, no `http-request \
    del-header` in HAProxy, no `header_up -NAME` in Caddy, `routing.http.drop_invalid_header_fields.enabled` \
    false in AWS ALB";

pub(crate) const DEADLINE: &str = "let `grpc-timeout` pass as it is: `max_stream_duration` with \
    `grpc_timeout_header_max: 0s` and `timeout: 0s` on the route in Envoy, no `grpc_set_header grpc-timeout` in \
    nginx, no `http-request set-header grpc-timeout` in HAProxy";

pub(crate) const CANCEL: &str = "end what nobody waits for: `option abortonclose` in HAProxy, no \
    `proxy_ignore_client_abort` in nginx (`grpc_pass` passes a cancel on), no `flush_interval -1` in Caddy; Envoy \
    passes it on by itself";

pub(crate) const CALM: &str = "send PING less often, or allow it: in a server of gRPC's C core \
    `GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`, in Go `keepalive.EnforcementPolicy`, in Java \
    `permitKeepAliveTime`; in nginx more than some PINGs in a row count as a flood";

pub(crate) const GOAWAY: &str = "have connections end in order, after their calls: `keepalive_requests` and \
    `keepalive_time` in nginx, `max_requests_per_connection`, `max_connection_duration` and `drain_timeout` in \
    Envoy, `hard-stop-after` in HAProxy, `grace_period` in Caddy";

pub(crate) const BALANCE: &str = "balance calls and not connections: `grpc_pass` to an `upstream` in nginx instead \
    of `stream`, `http_connection_manager` in Envoy instead of `tcp_proxy`, `mode http` in HAProxy instead of \
    `mode tcp`, AWS ALB instead of NLB; or balance in the client (round_robin)";

pub(crate) const INSTANCES: &str = "take the instance that does not answer out of the pool: `max_fails` and \
    `grpc_next_upstream` in nginx, `health_checks` and `outlier_detection` in Envoy, `check` with `option httpchk` \
    in HAProxy, `health_uri` in Caddy, the target group's health check in AWS ALB";

pub(crate) const COMPRESSION: &str = "let `grpc-encoding` and `grpc-accept-encoding` pass: no `grpc_set_header` or \
    `grpc_hide_header` for them in nginx, no `request_headers_to_remove` in Envoy, no `http-request del-header` in \
    HAProxy, no `header_up -NAME` in Caddy";

pub(crate) const WEB: &str = "for browsers, let HTTP/1.1 in and translate: `envoy.filters.http.grpc_web` and \
    `envoy.filters.http.cors` in Envoy; where the server itself speaks gRPC-Web, `proxy_pass` with \
    `proxy_http_version 1.1` for it in nginx, a `server` line without `proto h2` in HAProxy";

pub(crate) const HTTP1: &str = "where a load balancer checks health by HTTP/1.1, give it a port that answers it, or \
    have it check by gRPC: `grpc_health_check` in Envoy, protocol version GRPC of the target group in AWS ALB";

pub(crate) const SLOW: &str = "look for the hop that takes the time (`traceroute`), and for one that waits before it \
    sends: `tcp_nodelay on` in nginx, `option http-no-delay` in HAProxy";

pub(crate) const SERVICE: &str = "serve it, or route it: `/grpc.` needs a `location` in nginx, a route in Envoy, a \
    `use_backend` in HAProxy and a rule in AWS ALB as the other services do";

pub(crate) const AGE: &str = "raise what ends long calls: the route's `timeout` (15 s unless it is 0s) and \
    `max_stream_duration` in Envoy, `stream_timeout` in Caddy, `ReadTimeout` and `WriteTimeout` of a server in Go; nginx, HAProxy and AWS ALB end silent ones alone; our \
    server has `--max-stream-age`";
