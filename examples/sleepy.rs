//! A service of one's own with repd's command line: each request says how many milliseconds its
//! reply takes, or `never`, or `panic`. To try time-outs, stops and the dispatch:
//!
//!     cargo run --example sleepy -- serve --workers 2 --timeout 1

use std::process::ExitCode;
use std::thread::{park, sleep};
use std::time::Duration;

use repd::cli::{Action, Command, parse, print};
use repd::{Code, Error, Fault, Frame, logging, serve};

fn sleepy(request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    match str::from_utf8(&request[0]).unwrap_or_default() {
        "never" => loop {
            park();
        },
        "panic" => panic!("asked to"),
        text => {
            let milliseconds = text.parse();
            sleep(Duration::from_millis(milliseconds.map_err(|_| {
                Fault::new(Code::BAD_REQUEST, "send milliseconds, never, or panic")
            })?));
            Ok(request)
        }
    }
}

fn run() -> Result<(), Error> {
    let options = match parse(std::env::args_os())? {
        Action::Run(Command::Serve(options)) => options,
        Action::Run(_) => return Ok(()),
        Action::Print(text) => return print(&text),
    };
    logging::start(options.log_target(), options.log_level())?;
    serve(&options.config_with(|_| sleepy))
}

fn main() -> ExitCode {
    run().map_or_else(|error| logging::report(&error), |()| ExitCode::SUCCESS)
}
