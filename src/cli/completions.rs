//! The options of `repd completions`.

use std::str::FromStr;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use argh_complete::{Generator, bash::Bash, fish::Fish, nushell::Nushell, zsh::Zsh};

/// Print the completions of a shell.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help"),
    example = "{command_name} bash | sudo tee /etc/bash_completion.d/repd"
)]
pub struct Completions {
    /// the shell: bash, zsh, fish or nushell
    #[argh(positional, arg_name = "shell")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Nushell,
}

impl FromStr for Shell {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Shell, &'static str> {
        match name {
            "bash" => Ok(Shell::Bash),
            "zsh" => Ok(Shell::Zsh),
            "fish" => Ok(Shell::Fish),
            "nushell" => Ok(Shell::Nushell),
            _ => Err("give bash, zsh, fish or nushell"),
        }
    }
}

impl Completions {
    /// Returns the script for a command line of these options.
    pub(super) fn script(&self, info: &CommandInfoWithArgs) -> String {
        match self.shell {
            Shell::Bash => Bash::generate("repd", info),
            Shell::Zsh => Zsh::generate("repd", info),
            // fish before version 4, as in Debian 12, knows this option by its old name alone; later
            // ones know both.
            Shell::Fish => {
                Fish::generate("repd", info).replace("commandline -xpc", "commandline -opc")
            }
            Shell::Nushell => Nushell::generate("repd", info),
        }
    }
}
