//! The options of `repd call`.

use std::time::Duration;

use argh::FromArgs;

use super::parse;
use crate::config;
use crate::endpoint::Endpoint;

/// Send one request, print the reply: each frame on a line, with what is not printable escaped.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "call",
    help_triggers("-h", "--help"),
    note = "Exit codes: 0 a reply; 1 no reply in time, or nobody there; 2 bad usage; 3 a REPD-ERROR reply.",
    example = "{command_name} tcp://localhost:5555 hello"
)]
pub struct Call {
    /// the service, tcp://HOST:PORT or ipc://PATH
    #[argh(positional, arg_name = "endpoint")]
    pub endpoint: Endpoint,

    /// frames of the request; standard input is the one frame if there is none
    #[argh(positional, arg_name = "frame")]
    pub frames: Vec<String>,

    /// seconds to wait for a reply, for each try (default 5)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::CALL_TIMEOUT",
        from_str_fn(parse::timeout)
    )]
    pub timeout: Duration,

    /// tries after the first, each with a fresh socket (default 0)
    #[argh(option, arg_name = "n", default = "0", from_str_fn(parse::retries))]
    pub retries: usize,

    /// print the reply's bytes as they are, and nothing else
    #[argh(switch)]
    pub raw: bool,
}
