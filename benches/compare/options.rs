//! The command line of the comparison.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;

use crate::statistics::MIN_ROUNDS;

/// The defaults of `--rounds`, without and with `--against`.
const ROUNDS: usize = 9;
const ROUNDS_AGAINST: usize = 25;
/// The default of `--bound`.
const BOUND: f64 = 0.97;

/// Compare repd with other servers, or with another build of it, under the same loads.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Exit codes: 0 done; 1 failed, or a rate falls below the bound; 2 bad usage."
)]
pub struct Options {
    /// one short round, to see that it runs; with --against, short loads
    #[argh(switch)]
    quick: bool,

    /// run only the loads whose name contains this text
    #[argh(option, arg_name = "text")]
    only: Option<String>,

    /// how often each load is run (default 9, with --against 25)
    #[argh(option, arg_name = "n")]
    rounds: Option<usize>,

    /// another build of repd, to compare this one with instead
    #[argh(option, arg_name = "binary")]
    pub against: Option<PathBuf>,

    /// with --against, the ratio of rates that must be exceeded, over 0 to 1 (default 0.97)
    #[argh(option, arg_name = "ratio")]
    bound: Option<f64>,
}

/// Which loads run, how often and for how long.
#[derive(Clone)]
pub struct Plan {
    pub rounds: usize,
    pub warmup: Duration,
    pub time: Duration,
    pub only: Option<String>,
}

impl Plan {
    /// Returns true if the load of that name is to run.
    pub fn has(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

impl Options {
    /// Reads the command line. If it asks for help or is wrong, prints that and returns the exit
    /// code.
    pub fn parse() -> Result<Options, ExitCode> {
        // cargo bench adds a --bench of its own.
        let arguments: Vec<String> =
            std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = Options::from_args(&["cargo bench --"], &arguments).map_err(|exit| {
            if exit.status.is_ok() {
                println!("{}", exit.output);
                return ExitCode::SUCCESS;
            }
            refuse(exit.output.lines().next().unwrap_or_default())
        })?;
        options.mistake().map_or(Ok(options), |mistake| Err(refuse(&mistake)))
    }

    /// Returns what is wrong and what to give instead, or `Option::None` if the options are right.
    fn mistake(&self) -> Option<String> {
        let least = if self.against.is_some() { MIN_ROUNDS } else { 1 };
        if self.rounds.is_some_and(|rounds| rounds < least) {
            return Some(format!("cannot take fewer than {least} rounds: give --rounds {least}"));
        }
        if self.bound.is_some() && self.against.is_none() {
            return Some("cannot use --bound without --against: give a binary".into());
        }
        if !(f64::MIN_POSITIVE..=1.0).contains(&self.bound()) {
            return Some(format!("cannot use --bound {}: give a ratio over 0 to 1", self.bound()));
        }
        let binary = self.against.as_ref()?;
        let missing = std::fs::metadata(binary).err()?;
        Some(format!("cannot run --against {}: {missing}", binary.display()))
    }

    pub fn bound(&self) -> f64 {
        self.bound.unwrap_or(BOUND)
    }

    pub fn plan(&self) -> Plan {
        let rounds = match (&self.against, self.quick) {
            (Some(_), false) => ROUNDS_AGAINST,
            (Some(_), true) => MIN_ROUNDS,
            (None, false) => ROUNDS,
            (None, true) => 1,
        };
        let (warmup, time) = if self.quick { (20, 100) } else { (200, 500) };
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            warmup: Duration::from_millis(warmup),
            time: Duration::from_millis(time),
            only: self.only.clone(),
        }
    }
}

fn refuse(mistake: &str) -> ExitCode {
    eprintln!("error: {mistake}");
    ExitCode::from(2)
}
