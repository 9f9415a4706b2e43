//! The options of `repd keygen`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Make a pair of keys: NAME.key, the public one, and NAME.key_secret, which nobody else may have.
/// Print the line for the list of clients.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "keygen",
    help_triggers("-h", "--help"),
    note = "No file is overwritten.",
    note = "Exit codes: 0 done; 1 a file cannot be written, or is there already; 2 bad usage, or \
            a file that holds no key.",
    example = "{command_name} pump-7 >> clients"
)]
pub struct Keygen {
    /// name of the client, and of the files; may have a folder in front
    #[argh(positional, arg_name = "name")]
    pub name: Option<PathBuf>,

    /// if NAME.key_secret is there already, keep it and print its line
    #[argh(switch)]
    pub if_missing: bool,

    /// print the public key of the secret key in this file instead
    #[argh(option, arg_name = "file")]
    pub public: Option<PathBuf>,
}
