//! What must hold of endpoints, whatever is given as one.

use std::net::SocketAddr;

use super::*;
use crate::text::printable;

/// Reads an endpoint. No name is looked up.
pub fn endpoint(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(printable(bytes), text);
            let written = written(&endpoint.address);
            assert_eq!(parse::address(&written).as_ref(), Ok(&endpoint.address), "{written}");
        }
        Err(error) => {
            let socket = text.strip_prefix("tcp://").map(str::parse::<SocketAddr>);
            assert!(!matches!(socket, Some(Ok(_))), "an address is an endpoint");
            let said = format!("{:#}", Error::from(error));
            assert_eq!(printable(said.as_bytes()), said);
        }
    }
}

/// Returns an address as one may write it.
fn written(address: &Address) -> String {
    match address {
        Address::Tcp { host: Host::Any, port } => format!("tcp://*:{port}"),
        Address::Tcp { host: Host::Named(v6), port } if v6.contains(':') => {
            format!("tcp://[{v6}]:{port}")
        }
        Address::Tcp { host: Host::Named(name), port } => format!("tcp://{name}:{port}"),
        Address::Srv { name } => format!("tcp://{name}"),
        Address::Ipc { path } => {
            assert!(path.as_os_str().len() <= parse::MAX_PATH && path.file_name().is_some());
            format!("ipc://{}", path.display())
        }
        Address::Abstract { name } => format!("ipc://@{name}"),
        Address::Inherited { name } => format!("fd://{name}"),
    }
}
