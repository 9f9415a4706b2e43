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
//! - [`Service`]: a service that is stopped by a [`StopHandle`] instead of a signal, such as one in
//!   a test.
//!
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
//! # Inside: what lives where
//!
//! Data flows one way: each room knows only rooms below it. `backend` and `handler` know nothing of
//! `service`, and handlers nothing of ZeroMQ.
//!
//! - `cli`: the command line, and how its values are read (`parse`); `config`: settings, defaults,
//!   ranges
//! - `service`: put together in the order in which it starts and ends. `proxy` is the loop that
//!   carries messages between the `frontend` (the ROUTER) and the lanes, as the `dispatcher`
//!   decides, which holds no socket. `queue`: the requests that no lane can take yet, and which is
//!   next; `clients`: who asks, and how much; `in_flight`: the table of requests that were taken;
//!   `single_threaded`: the server without a proxy; `broker`: what it has in common with that;
//!   `wakers`: what wakes both; `resources`, `check`, `end`: what a service is made of, whether it can
//!   be, and how it goes;
//!   `outbox`: the replies that clients do not take yet; `drain`: when a service that is stopping
//!   may end; `manager`: what systemd is told; `watch`: the end of a handler that hangs; `figures`,
//!   `usage`: how long requests take, how much each client asks for; `trace`: what the log tells of
//!   each request; `running`: a service seen from another thread; `confinement`: what `repd serve`
//!   with keys still may do
//! - `status`: how a service is doing, as its loop tells when it is asked; the HTTP server that shows
//!   it, and the command that reads that
//! - `backend`: lanes and what stands behind them. In this process: `worker_lane`, `worker` and
//!   their `pool`; the `window` of what is outstanding on a worker; `credit` and `claim`, which a
//!   worker and its lane share. Elsewhere: an `external` worker, which connects to the `router`, or an
//!   `upstream`; its `peer_load` and `concurrency`, and what its `reply` may be. `lanes`: all of them,
//!   as they come and go; `names`: the upstreams that have one, each a `look_up` that is repeated. A lane and its worker do not know each other: they meet at an endpoint
//! - `handler`, `fault`, `frame`, `deadline`: requests and replies, without transport;
//!   `handler::program`: a
//!   program as the handler, its copies looked after by the `supervisor`, each a `process`; an
//!   `exchange`: how a request is written (`framing`), a `reply` read, what is told of a `failure`;
//!   what they say on `stderr`
//! - `socket`: all of libzmq but for the message in a `frame`; `endpoint`: what a user may write,
//!   the `listener` there or one that is `inherited`, how one is `connect`ed to, a `host` and how the
//!   system can `resolve` it, and the `targets` to which a name leads; `dns`: a client for SRV records
//! - `sys`: what is Linux alone; `logging`: a `line`, which of them `repeats` and is left out, and where
//!   lines go;
//!   `text`, `error`: what their names say
//! - `fuzzing`: what the targets in `fuzz` call
//! - `call`: the client; `bench`: the load tool, of a `load`, its `clients` and a `report`

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
