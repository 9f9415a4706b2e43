//! Parses the command line, runs the command and maps its result to an exit code.

use std::process::ExitCode;

use repd::cli::{Action, Command, Serve, parse, print};
use repd::status::command::status;
use repd::{Error, bench, call, check, keygen, logging, serve_confined};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = parse(std::env::args_os()).and_then(|action| {
        let done = match action {
            Action::Print(text) => print(&text),
            Action::Run(Command::Completions(_)) => Ok(()),
            Action::Run(Command::Bench(options)) => bench::bench(&options),
            Action::Run(Command::Call(options)) => call::call(&options),
            Action::Run(Command::Keygen(options)) => keygen::keygen(&options),
            Action::Run(Command::Serve(options)) => run(&options),
            Action::Run(Command::Status(options)) => return status(&options),
        };
        done.map(|()| ExitCode::SUCCESS)
    });
    done.unwrap_or_else(|error| logging::report(&error))
}

/// Runs the service, or with `--check` only says what would be run.
fn run(options: &Serve) -> Result<(), Error> {
    logging::start(options.log_target(), options.log_level())?;
    let config = options.config();
    if options.check {
        check(&config)?;
        return print(&options.describe());
    }
    serve_confined(&config)
}
