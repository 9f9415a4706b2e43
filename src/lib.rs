//! `repd` answers ZeroMQ REQ clients with a fixed pool of REP workers behind a ROUTER–DEALER proxy.
//!
//! ```text
//! REQ client ──tcp/ipc──> ROUTER frontend ──> proxy ──> DEALER lane ──inproc──> REP worker ──> handler
//!            <──────────                 <──        <──            <──         <──        <──
//! ```
//!
//! # Your own handler
//!
//! A handler is a function of the request's frames; [`serve`](serve::serve) runs it until SIGTERM. Here the service
//! is stopped by a pipe instead, after one request:
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
//! Data flows one way: each room knows only rooms below it.
//!
//! - `cli`: the command line; `config`: settings, defaults, ranges
//! - [`serve`]: the service put together, in the order in which it starts and ends;
//!   [`call`]: the client; [`bench`](mod@bench): the load tool, of a `load`, its `clients` and a `report`
//! - `proxy`: the loop between `frontend` (the ROUTER), `lane` (a DEALER) and `ticket` (requests in
//!   flight); `single`: the server without a proxy; `outbox`: replies that clients do not take yet;
//!   `drain`: when a service that is stopping may end
//! - `pool`: the worker threads; `worker`: the REP loop; `credit` and `claim`: the two figures that a
//!   worker and its lane share
//! - `handler`, `fault`, `frame`: requests and replies, without transport; `handler::program`: a program
//!   as the handler, of its `copies`, each a `process`, the `framing`, and what they say on `stderr`
//! - `socket`: all of libzmq; `listen`, `endpoint`: where clients connect; `names`: a host's addresses
//! - `sched`: how the threads share the processors; `memory`: what a burst has left behind; these two, `names`,
//!   `socket` and `handler::program::process` have all that is unsafe
//! - `log`: where lines go, and `repeats`, which lines are left out
//! - `descriptor`, `signal`, `text`, `limit`, `tally`, `error`: what their names say
//!
//! `proxy` and `worker` do not know each other: they meet at an endpoint.
//!
//! # What it does not do, and why
//!
//! - It does not queue what no worker can take: that stays in the ROUTER, where libzmq deals fairly
//!   between clients and TCP slows down who sends too much.
//! - It does not end a handler that hangs: a thread cannot be ended. The client gets a 504, the worker
//!   takes no more requests until the handler returns.
//! - It does not ask a second worker when one has failed, unless it is told to: a request is handled at
//!   most once.

pub mod bench;
pub mod call;
mod claim;
pub mod cli;
mod config;
mod credit;
mod descriptor;
mod drain;
mod endpoint;
mod error;
mod fault;
mod frame;
mod frontend;
mod handler;
mod lane;
mod limit;
mod listen;
pub mod log;
mod memory;
mod names;
mod outbox;
mod pool;
mod proxy;
mod repeats;
mod sched;
pub mod serve;
mod signal;
mod single;
mod socket;
mod tally;
mod text;
mod ticket;
mod worker;

pub use config::Config;
pub use endpoint::Endpoint;
pub use error::Error;
pub use fault::{Code, Fault, MARK};
pub use frame::Frame;
pub use handler::{Copies, Framing, Handler, Program, echo, reverse};
pub use serve::Service;

/// The README's code is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
