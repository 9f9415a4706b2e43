//! Answers ZeroMQ REQ clients with a fixed pool of REP workers behind a ROUTER–DEALER proxy.
//!
//! ```text
//! REQ client ──tcp/ipc──> ROUTER ──> proxy ──> DEALER lane ──inproc──> REP worker ──> handler
//!            <──────────        <──        <──             <──                    <──
//! ```
//!
//! It is a program first, and a library for those who want its service around a function of their
//! own: no quick request waits behind a slow one, each client gets a reply or an error in time, and
//! a stop loses nothing.
//!
//! # A service of your own
//!
//! A [`Handler`] is a function of a request's frames. [`serve`] runs a service until SIGTERM:
//!
//! ```no_run
//! use repd::{Backend, Config, Frame, logging, serve};
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     let shout = |_worker| {
//!         |request: Vec<Frame>| {
//!             Ok(request.iter().map(|frame| Frame::from(frame.to_ascii_uppercase())).collect())
//!         }
//!     };
//!     let config = Config::new(Backend::workers(5, shout));
//!     let started = logging::start(logging::Target::Stderr, logging::LevelFilter::Info);
//!     let served = started.and_then(|()| serve(&config));
//!     served.map_or_else(|error| logging::report(&error), |()| ExitCode::SUCCESS)
//! }
//! ```
//!
//! - [`Config`]: where clients connect, what answers them ([`Backend`]), and every limit.
//! - [`Handler`]: what answers; [`Program`] is one in any other language; [`reverse`] and [`echo`]
//!   come with the crate.
//! - [`Fault`]: an error reply, with a [`Code`].
//! - [`Service`]: a service that is stopped by a [`StopHandle`] instead of a signal.
//! - [`Running`]: a service in a thread of its own, such as one in a test.
//!
//! What a service has to say goes to the `log` crate; [`logging`] is a logger for it.
//!
//! # To use it
//!
//! It is for Linux, and needs Rust 1.89, a C++ compiler and make: libzmq and libsodium are built
//! from source, in some minutes. Its `Cargo.toml` names a clone of repd's repository, since the
//! libzmq inside comes from there too:
//!
//! ```toml
//! [dependencies]
//! repd = { path = "../repd", default-features = false }
//!
//! [patch.crates-io]
//! zmq-sys = { path = "../repd/zmq-sys" }
//! ```
//!
//! The feature `cli` is for the program alone. It is on by default.
//!
//! # What it does not do, and why
//!
//! - It does not end a handler that hangs: a thread cannot be ended. The client gets a 504, the
//!   worker takes no more requests until the handler returns.
//! - It does not ask a second worker when one has failed, unless it is told to: a request is
//!   handled at most once.
//!
//! # Inside
//!
//! `docs/architecture.md` of the source says what lives where, and how a request goes through it.

// What only `call` and `bench` use.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

mod auth;
mod backend;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod call;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod config;
mod deadline;
mod dns;
mod endpoint;
mod error;
mod fault;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod hops;
#[cfg(feature = "cli")]
pub mod keygen;
pub mod logging;
mod service;
mod socket;
#[doc(hidden)]
pub mod status;
mod sys;
mod text;

pub use auth::{ClientKeys, Network, NoKey, PublicKey};
pub use config::{Backend, Config, Workers};
pub use endpoint::{Endpoint, EndpointError};
pub use error::Error;
pub use fault::{Code, Fault, MARK};
pub use frame::Frame;
pub use handler::{Client, Framing, Handler, Program, echo, reverse};
#[doc(hidden)]
pub use service::serve_confined;
pub use service::{ReloadHandle, Running, Service, StopHandle, check, serve};

/// The README's code is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/library.md")]
struct Readme;
