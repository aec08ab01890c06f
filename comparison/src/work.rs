//! What is measured, and on whom.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Something that a client does with a server, as fast as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A small question and its answer, one at a time
    Unary1,
    /// The same, 4 in flight on one connection
    Unary4,
    /// The same, 16 in flight on one connection
    Unary16,
    /// The same, 64 in flight on one connection
    Unary64,
    /// The same, 512 in flight on eight connections
    Unary512,
    /// Small messages from the server
    ServerStreaming,
    /// Small messages to the server
    ClientStreaming,
    /// Small messages to the server, each answered
    BidiStreaming,
    /// The same, each after the answer to the one before
    BidiPingPong,
    /// Numbers to the server, a message each
    Values,
    /// The same, in messages of 1,000 numbers
    Columnar,
    /// Bytes that the server throws away, in messages of 64 KiB
    Upload64kib,
    /// The same, in messages of 1 MiB
    Upload1mib,
    /// Two integers to be multiplied, one pair at a time
    Multiply1,
    /// The same, 64 in flight
    Multiply64,
}

/// A server, and the protocol that it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// The server of this repository, all layers on
    #[value(skip)]
    Ours,
    /// tonic as it comes: no layers, no limits, default settings, the default allocator
    BareTonic,
    /// tonic without layers, with the server's HTTP/2 settings and allocator
    TunedTonic,
    /// connectrpc as it comes, with the server's allocator
    Connectrpc,
    /// grpc-go as it comes
    GrpcGo,
    /// gRPC C++ by its callback API
    GrpcCpp,
    /// grpc-java, its handlers on the threads of the network
    GrpcJava,
    /// The h2 crate alone, which sends and takes the same frames
    H2,
    /// Bytes over TCP: echoed, or thrown away
    Tcp,
    /// Multiply as JSON over HTTP/1.1
    Rest,
    /// Multiply by Go's net/rpc over TCP, in gob
    NetRpcGob,
    /// Multiply by Go's net/rpc over TCP, in JSON
    // As the figures of earlier runs have it.
    #[serde(alias = "json-rpc")]
    NetRpcJson,
}

impl Work {
    /// Those that can do it, ours first.
    pub(crate) const fn contestants(self) -> &'static [Contestant] {
        use Contestant::{
            BareTonic, Connectrpc, GrpcCpp, GrpcGo, GrpcJava, H2, NetRpcGob, NetRpcJson, Ours, Rest, Tcp,
            TunedTonic,
        };
        match self {
            Self::BidiPingPong => &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava, Tcp],
            Self::Unary1 | Self::Unary64 => {
                &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava, H2, Tcp]
            }
            Self::Unary4 | Self::Unary16 => {
                &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava]
            }
            Self::Unary512 => &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava, H2],
            Self::ServerStreaming | Self::ClientStreaming | Self::BidiStreaming => {
                &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava]
            }
            Self::Values | Self::Columnar => &[Ours, BareTonic],
            Self::Upload64kib | Self::Upload1mib => {
                &[Ours, BareTonic, TunedTonic, Connectrpc, GrpcGo, GrpcCpp, GrpcJava, Tcp]
            }
            Self::Multiply1 | Self::Multiply64 => &[Ours, Rest, NetRpcGob, NetRpcJson],
        }
    }

    /// How many connections, and how many calls at once on each.
    pub(crate) const fn in_flight(self) -> (usize, usize) {
        match self {
            Self::Unary4 => (1, 4),
            Self::Unary16 => (1, 16),
            Self::Unary64 | Self::Multiply64 => (1, 64),
            // A server has 100 streams for a connection.
            Self::Unary512 => (8, 64),
            _ => (1, 1),
        }
    }

    /// The payload of a message, in bytes.
    pub(crate) const fn message(self) -> usize {
        match self {
            Self::Upload64kib => 64 << 10,
            Self::Upload1mib => 1 << 20,
            Self::Values | Self::Columnar => 0,
            _ => 32,
        }
    }

    /// How many numbers are in a message that has them beside its payload.
    pub(crate) const fn values(self) -> usize {
        match self {
            Self::Values => 1,
            Self::Columnar => 1000,
            _ => 0,
        }
    }
}

impl Contestant {
    /// Whether it is a program of another workspace or language, which is left out where it was
    /// not built.
    pub(crate) const fn is_optional(self) -> bool {
        matches!(self, Self::Connectrpc | Self::GrpcGo | Self::GrpcCpp | Self::GrpcJava)
    }

    /// Whether it is slow at first, which says nothing of a server.
    pub(crate) const fn compiles_as_it_runs(self) -> bool {
        matches!(self, Self::GrpcJava)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("server"),
            other => f.write_str(&name(*other)),
        }
    }
}

/// As on the command line.
pub(crate) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
