//! Parses, runs the command, maps the exit code.

use std::io::{Write, stdout};
use std::process::ExitCode;

use repd::cli::{Answering, Builtin, Command, Request, Serve, parse};
use repd::{Error, bench, call, check, echo, logging, reverse, serve};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = parse(std::env::args_os()).and_then(|request| match request {
        Request::Print(text) => print(&text),
        Request::Run(Command::Bench(options)) => bench::bench(&options),
        Request::Run(Command::Call(options)) => call::call(&options),
        Request::Run(Command::Serve(options)) => run(&options),
    });
    done.map_or_else(|error| logging::report(&error), |()| ExitCode::SUCCESS)
}

fn run(options: &Serve) -> Result<(), Error> {
    logging::start(options.log, options.verbose)?;
    let (config, answering) = (options.config(), options.answering());
    if options.check {
        if let Answering::Program(program) = &answering {
            program.handlers(&config).map(drop)?;
        }
        check(&config)?;
        return print(&options.describe());
    }
    match answering {
        Answering::Builtin(Builtin::Reverse) => serve(&config, |_| reverse),
        Answering::Builtin(Builtin::Echo) => serve(&config, |_| echo),
        Answering::Program(program) => serve(&config, program.handlers(&config)?),
    }
}

fn print(text: &str) -> Result<(), Error> {
    stdout().write_all(text.as_bytes()).map_err(Error::unprinted)
}
