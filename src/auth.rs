//! Who may connect: keys and the files that hold them, the lists of who is let in, and the ZAP
//! handler that libzmq asks.

mod access;
mod guard;
mod identity;
mod key;
mod key_file;
mod list;
mod network;
mod servers;
mod told;
mod zap;

#[cfg(any(test, fuzzing))]
pub use {key_file::fuzz::key_file, list::fuzz::client_list, servers::fuzz::server_list};

pub use key::{ClientKeys, NoKey, PublicKey};
pub use network::Network;

pub(crate) use access::{Access, CLIENTS, Files, Listed, WORKERS};
pub(crate) use identity::{Identity, parse_address};
#[cfg(any(test, feature = "cli"))]
pub(crate) use key::KeyPair;
#[cfg(feature = "cli")]
pub(crate) use key_file::{read_pair, read_public};
pub(crate) use list::Limits;
#[cfg(feature = "cli")]
pub(crate) use list::check_name;
pub(crate) use network::admits;
pub(crate) use zap::ZapHandler;
