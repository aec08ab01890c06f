//! What a user may ask for: a folder for each mode, a file for each scenario.
//!
//! The file has the scenario's options, its calls and its report. The table here
//! is all that has its name besides: the name of its module is that of its
//! command.

pub(crate) mod bidi_streaming;
pub(crate) mod client_streaming;
pub(crate) mod options;
pub(crate) mod server_streaming;
pub(crate) mod task;
pub(crate) mod unary;

use std::process::ExitCode;

use clap::Subcommand;
use grpc_wire::Mode;

use crate::scenario::{Entry, Run, Scenario};

/// The scenarios of one mode.
pub(crate) trait Scenarios {
    const MODE: Mode;
    const ALL: &[Entry];

    async fn run(&self, run: &Run<'_>) -> ExitCode;
}

macro_rules! scenarios {
    ($($mode:ident in $folder:ident { $($name:ident::$Scenario:ident,)* })*) => {$(
        #[derive(Debug, Subcommand)]
        pub(crate) enum $mode {
            $(#[command(name = stringify!($name))] $Scenario($folder::$name::$Scenario),)*
        }

        impl Scenarios for $mode {
            const MODE: Mode = Mode::$mode;
            const ALL: &[Entry] = &[$(Entry {
                name: stringify!($name),
                not_demonstrated: <$folder::$name::$Scenario as Scenario>::NOT_DEMONSTRATED,
            },)*];

            async fn run(&self, run: &Run<'_>) -> ExitCode {
                match self {
                    $(Self::$Scenario(scenario) => run.scenario(stringify!($name), scenario).await,)*
                }
            }
        }
    )*};
}

scenarios! {
    Unary in unary {
        multiply::Multiply,
        status::Status,
        files::Files,
        submit::Submit,
        task::Task,
        cancel::Cancel,
    }
    ServerStreaming in server_streaming {
        quotes::Quotes,
        system::System,
        download::Download,
        task::Task,
        log::Log,
    }
    ClientStreaming in client_streaming {
        readings::Readings,
        upload::Upload,
    }
    BidiStreaming in bidi_streaming {
        chat::Chat,
        sync::Sync,
    }
}

/// Of one mode, in the order of the help.
pub(crate) fn of(mode: Mode) -> &'static [Entry] {
    match mode {
        Mode::Unary => Unary::ALL,
        Mode::ServerStreaming => ServerStreaming::ALL,
        Mode::ClientStreaming => ClientStreaming::ALL,
        Mode::BidiStreaming => BidiStreaming::ALL,
    }
}
