//! The options of `repd call`.

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::{client_keys, parse};
use crate::auth::{ClientKeys, PublicKey};
use crate::config;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// Send one request and print the reply, each frame on a line. Characters that cannot be printed
/// are escaped.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "call",
    help_triggers("-h", "--help"),
    note = "A time is in seconds, or has a unit: 500ms, 5s, 2m, 1h.",
    note = "Exit codes: 0 a reply; 1 no reply in time, nothing listens there, or the \
            connection was lost; 2 bad usage or configuration; 3 an error reply (REPD-ERROR).",
    example = "{command_name} tcp://localhost:5555 hello"
)]
pub struct Call {
    /// the service, tcp://HOST:PORT or ipc://PATH
    #[argh(positional, arg_name = "endpoint")]
    pub endpoint: Endpoint,

    /// frames of the request; without any, standard input is the one frame
    #[argh(positional, arg_name = "frame")]
    pub frames: Vec<String>,

    /// seconds to wait for a reply, in each try, 0.001 to 86400 (default 5)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::CALL_TIMEOUT",
        from_str_fn(parse::timeout)
    )]
    pub timeout: Duration,

    /// number of further tries after the first, each with a new socket, 0 to 1000000 (default 0)
    #[argh(option, arg_name = "n", default = "0", from_str_fn(parse::call_retries))]
    pub retries: usize,

    /// public key of a service that wants keys, or the file NAME.key with it; needs --key
    #[argh(option, arg_name = "key", from_str_fn(parse::server_key))]
    server_key: Option<PublicKey>,

    /// file with the secret key to be known by, NAME.key_secret; needs --server-key
    #[argh(option, arg_name = "file")]
    key: Option<PathBuf>,

    /// send standard input as it is; otherwise the line end at the end of a text is left off
    #[argh(switch)]
    pub keep_newline: bool,

    /// print the bytes of the reply unchanged, and nothing else
    #[argh(switch)]
    pub raw: bool,
}

impl Call {
    /// Returns the keys to connect with, if they are given.
    ///
    /// # Errors
    /// One without the other, or a file that holds no key (exit code 2).
    pub(crate) fn keys(&self) -> Result<Option<ClientKeys>, Error> {
        client_keys(self.key.as_deref(), self.server_key)
    }
}
