//! Which options of `repd serve` go together.

use log::LevelFilter;

use super::{Format, LogTarget, Serve, lower};
use crate::error::Error;
use crate::handler::Framing;

impl Serve {
    /// Checks that the options go together.
    ///
    /// # Errors
    /// Returns an error with exit code 2 that names the two options and the remedy.
    pub(in crate::cli) fn check_options(&self) -> Result<(), Error> {
        let given = |option: &str| match option {
            "--backend" => !self.backend.is_empty(),
            "--upstream" => !self.upstream.is_empty(),
            "--workers" => self.workers.is_some(),
            "--handler" => self.handler.is_some(),
            "--framing" => self.framing.is_some(),
            "--multipart" => self.multipart,
            _ => !self.program.is_empty(),
        };
        let exclusive = [
            ("--upstream", "--backend"),
            ("--handler", "a program"),
            ("--handler", "--backend"),
            ("--handler", "--upstream"),
            ("a program", "--backend"),
            ("a program", "--upstream"),
            ("--workers", "--backend"),
            ("--workers", "--upstream"),
            ("--framing", "--backend"),
            ("--framing", "--upstream"),
            ("--multipart", "--backend"),
            ("--multipart", "--upstream"),
        ];
        if let Some((one, other)) = exclusive.into_iter().find(|(a, b)| given(a) && given(b)) {
            return Err(Error::config(format!("cannot use {one} with {other}"))
                .with_remedy("leave out one of them"));
        }
        if self.multipart && self.framing == Some(Framing::Lines) {
            return Err(Error::config("cannot use --multipart with --framing lines")
                .with_remedy("use another --framing, or leave out --multipart"));
        }
        let of_program = ["--framing", "--multipart"].into_iter().find(|option| given(option));
        if let (Some(option), true) = (of_program, self.program.is_empty()) {
            return Err(Error::config(format!("cannot use {option} without a program"))
                .with_remedy("give one at the end: -- PROGRAM ARG..."));
        }
        self.check_workers()?;
        self.check_memory()?;
        self.check_log()?;
        self.check_keys()?;
        self.check_retries()
    }

    /// Checks that what is for others is not given to workers of this process.
    fn check_workers(&self) -> Result<(), Error> {
        if self.is_elsewhere() {
            return Ok(());
        }
        if self.max_outstanding.is_some() {
            return Err(Error::config("cannot use --max-outstanding with workers of this process")
                .with_remedy("give it with --backend or --upstream"));
        }
        if self.name_clients && self.program.is_empty() {
            return Err(Error::config("cannot use --name-clients with a built-in handler")
                .with_remedy("give a program, --backend or --upstream, which can use a name"));
        }
        Ok(())
    }

    /// Returns true if others than workers of this process answer.
    fn is_elsewhere(&self) -> bool {
        !self.backend.is_empty() || !self.upstream.is_empty()
    }

    /// Checks that two of the largest messages have place.
    fn check_memory(&self) -> Result<(), Error> {
        let least = 2 * self.max_message_size;
        if self.max_memory.is_none_or(|bytes| bytes >= least) {
            return Ok(());
        }
        Err(Error::config("cannot use --max-memory that is not twice --max-message-size")
            .with_remedy(format!("give at least {least}, or smaller messages")))
    }

    /// Checks that what is said about the log goes together.
    fn check_log(&self) -> Result<(), Error> {
        if self.log_format == Format::Json && self.log != LogTarget::Stderr {
            let target = lower(self.log);
            return Err(Error::config(format!("cannot use --log-format json with --log {target}"))
                .with_remedy("leave out one of them; it is for standard error"));
        }
        if self.verbose && self.log_level() != LevelFilter::Debug {
            return Err(Error::config("cannot use --verbose with another --log-level than debug")
                .with_remedy("leave out one of them"));
        }
        Ok(())
    }

    /// Checks that the keys and the lists that go together are there.
    fn check_keys(&self) -> Result<(), Error> {
        let Some((given, missing)) = self.config().missing_file() else { return Ok(()) };
        let value = if ["backend", "upstream"].contains(&missing) { "ENDPOINT" } else { "FILE" };
        Err(Error::config(format!("cannot use --{given} without --{missing}"))
            .with_remedy(format!("give --{missing} {value}, too")))
    }

    /// Checks that what may be lost, or take long, can be given to another.
    fn check_retries(&self) -> Result<(), Error> {
        if self.hedge && !self.is_elsewhere() {
            return Err(Error::config("cannot use --hedge with workers of this process")
                .with_remedy("leave it out, or give --backend or --upstream"));
        }
        if self.hedge && self.retries == 0 {
            return Err(Error::config("cannot use --hedge without --retries")
                .with_cause("it has requests handled twice")
                .with_remedy("leave it out, or give --retries 1 too"));
        }
        if self.retries == 0 || self.is_elsewhere() {
            return Ok(());
        }
        let (what, why) = if self.program.is_empty() {
            ("a handler of this process", "it is never lost")
        } else if self.framing == Some(Framing::Once) {
            ("--framing once", "a program that fails has had the request")
        } else if self.workers == Some(0) {
            ("--workers 0", "there is no other to ask")
        } else {
            return Ok(());
        };
        let remedy = "leave it out, or give workers with a program each, --backend or --upstream";
        Err(Error::config(format!("cannot use --retries with {what}"))
            .with_cause(why)
            .with_remedy(remedy))
    }
}
