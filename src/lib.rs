//! `repd` answers ZeroMQ REQ clients with a fixed pool of REP workers behind a ROUTER–DEALER proxy.
//!
//! ```text
//! REQ client ──tcp/ipc──> ROUTER frontend ──> proxy ──> DEALER lane ──inproc──> REP worker ──> handler
//!            <──────────                 <──        <──            <──         <──        <──
//! ```
//!
//! # Your own handler
//!
//! A handler is a function of the request's frames; [`serve`] runs it until SIGTERM. Here the
//! service is stopped by a pipe instead, after one request:
//!
//! ```
//! use repd::{Config, Endpoint, Frame, Service};
//!
//! let config = Config { listen: vec![Endpoint::any(0)], ..Config::default() };
//! let shout = |_worker| |request: Vec<Frame>| {
//!     Ok(request.iter().map(|frame| Frame::from(frame.to_ascii_uppercase())).collect())
//! };
//! let service = Service::start(&config, shout)?;
//! # let port = service.endpoints()[0].rsplit(':').next().unwrap().to_string();
//! # let (stop, stopping) = std::io::pipe()?;
//! # let client = std::thread::spawn(move || {
//! #     let socket = zmq::Context::new().socket(zmq::REQ).unwrap();
//! #     socket.connect(&format!("tcp://127.0.0.1:{port}")).unwrap();
//! #     socket.set_rcvtimeo(10_000).unwrap();
//! #     socket.send("hello", 0).unwrap();
//! #     let reply = socket.recv_bytes(0);
//! #     drop(stopping);
//! #     reply
//! # });
//! service.run(&stop)?;
//! # assert_eq!(client.join().unwrap().unwrap(), b"HELLO");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What lives where
//!
//! Data flows one way: each room knows only rooms below it. `backend` and `handler` know nothing of
//! `service`, and handlers nothing of ZeroMQ.
//!
//! - `cli`: the command line, and how its values are read (`parse`); `config`: settings, defaults,
//!   ranges
//! - `service`: put together in the order in which it starts and ends. `proxy` is the loop that
//!   carries messages between the `frontend` (the ROUTER) and the lanes, as the `dispatcher`
//!   decides, which holds no socket. `in_flight`: the table of requests that were taken;
//!   `single_threaded`: the server without a proxy; `outbox`: the replies that clients do not take
//!   yet; `drain`: when a service that is stopping may end; `stats`: its counters
//! - `backend`: lanes and what stands behind them. In this process: `worker_lane`, `worker` and
//!   their `pool`; the `window` of what is outstanding on a worker; `credit` and `claim`, which a
//!   worker and its lane share. Elsewhere: `remote`, and its `peer_load`. A lane and its worker do
//!   not know each other: they meet at an endpoint
//! - `handler`, `fault`, `frame`: requests and replies, without transport; `handler::program`: a
//!   program as the handler, its copies looked after by the `supervisor`, each a `process`; an
//!   `exchange` of request and reply, its `framing` and its `failure`; what they say on `stderr`
//! - `socket`: all of libzmq; `endpoint`: what a user may write, the `listener` there, and
//!   `resolve`, a host's addresses
//! - `sys`: what is Linux; `logging`: where lines go, and which `repeats` are left out; `text`,
//!   `error`: what their names say
//! - [`call`]: the client; [`bench`](mod@bench): the load tool, of a `load`, its `clients` and a
//!   `report`
//!
//! # What it does not do, and why
//!
//! - It does not queue what no worker can take: that stays in the ROUTER, where libzmq deals fairly
//!   between clients and TCP slows down who sends too much.
//! - It does not end a handler that hangs: a thread cannot be ended. The client gets a 504, the
//!   worker takes no more requests until the handler returns.
//! - It does not ask a second worker when one has failed, unless it is told to: a request is
//!   handled at most once.

mod backend;
pub mod bench;
pub mod call;
pub mod cli;
mod config;
mod endpoint;
mod error;
mod fault;
mod frame;
mod handler;
pub mod logging;
mod service;
mod socket;
mod sys;
mod text;

pub use config::Config;
pub use endpoint::Endpoint;
pub use error::Error;
pub use fault::{Code, Fault, MARK};
pub use frame::Frame;
pub use handler::{Copies, Framing, Handler, Program, echo, reverse};
pub use service::{Service, check, serve};

/// The README's code is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
