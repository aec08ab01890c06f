#![doc = include_str!("../README.md")]

mod accept;
mod activity;
mod bounds;
mod connection;
mod delivery;
mod files;
mod health;
mod last_words;
mod layers;
mod lines;
mod methods;
mod metrics;
mod open_files;
mod options;
mod reflection;
mod scrape;
mod serve;
mod settings;
mod shutdown;
mod stack;
mod status;
mod tls;
mod tokens;
mod turns;
mod workers;

pub use prometheus_client;

pub use crate::{
    activity::{Activity, Counts},
    connection::{Connection, TlsFacts},
    health::Health,
    layers::{Call, HttpService, IdleTimeoutSuspended, Passed, Told, Watcher},
    lines::Lines,
    methods::{Access, Rule},
    options::{LimitOptions, Options, TlsOptions, Unusable},
    settings::{Limits, Settings, TlsFiles},
    shutdown::shutdown_signal,
    stack::Stack,
    status::shutting_down,
    tokens::Tokens,
};
