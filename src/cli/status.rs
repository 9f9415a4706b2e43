//! The options of `repd status`.

use argh::{ArgsInfo, FromArgs};

use crate::config;
use crate::endpoint::Endpoint;

/// Show what a running service is doing.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "status",
    help_triggers("-h", "--help"),
    note = "Exit codes: 0 the service is ready; 1 it is not, or it cannot be printed; 2 bad usage; \
            3 nothing answers there.",
    example = "{command_name} tcp://localhost:9155",
    example = "{command_name} --watch"
)]
pub struct Status {
    /// where the service shows how it is doing: its --status (default ipc:///run/repd/status)
    #[argh(positional, arg_name = "endpoint", default = "config::status_endpoint()")]
    pub endpoint: Endpoint,

    /// go on, every two seconds
    #[argh(switch)]
    pub watch: bool,

    /// print JSON instead: /status.json
    #[argh(switch)]
    pub json: bool,

    /// print nothing: the exit code says it
    #[argh(switch)]
    pub quiet: bool,
}
