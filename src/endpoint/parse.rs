//! The text of an endpoint.

use std::path::Path;

use super::{Address, Host};
use crate::dns;
use crate::text::is_escaped;

/// Maximum length of a path in bytes: `sun_path` of `sockaddr_un` has 108, the last of which is
/// zero (unix(7)).
pub(super) const MAX_PATH: usize = 107;

/// Reads an endpoint, or tells what is wrong with it and what to give.
pub(super) fn address(text: &str) -> Result<Address, String> {
    if text.chars().any(|c| c.is_whitespace() || is_escaped(c)) {
        return Err(format!("an endpoint has no blanks or control characters; {GIVE}"));
    }
    match text.split_once("://") {
        Some(("tcp", rest)) => tcp(rest),
        Some(("ipc", rest)) => ipc(rest),
        Some(("fd", name)) => inherited(name),
        Some((scheme, _)) => {
            let given = scheme.escape_default();
            Err(format!("no transport {given}://; {GIVE}"))
        }
        None => Err(format!("no transport; {GIVE}")),
    }
}

pub(super) const GIVE: &str = "give tcp://HOST:PORT or ipc://PATH";

fn tcp(rest: &str) -> Result<Address, String> {
    if rest.starts_with('_') && !rest.contains(':') {
        return srv(rest);
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err("no port; give tcp://HOST:PORT, such as tcp://127.0.0.1:5555".into());
    };
    let port = match port {
        "*" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| "no such port; give one from 1 to 65535, or * for any".to_string())?,
        _ => return Err("no such port; give one from 1 to 65535, or * for any".into()),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (host, bracketed) {
        ("*", _) => Host::Any,
        ("", _) | (_, Some("")) => {
            return Err("no host; give * for every interface, an address or a name".into());
        }
        (_, Some(v6)) if v6.contains(':') => Host::Named(v6.into()),
        (host, _) if host.contains(['/', ';', ',', '[', ']', '@']) => {
            return Err("no such host; give *, an address, an interface or a name".into());
        }
        (host, _) if host.contains(':') => {
            return Err("an IPv6 address needs brackets: tcp://[::1]:5555".into());
        }
        (host, _) => Host::Named(host.into()),
    };
    Ok(Address::Tcp { host, port })
}

fn srv(name: &str) -> Result<Address, String> {
    if !dns::is_name(name) || name.split('.').filter(|label| !label.is_empty()).count() < 3 {
        return Err("no such name of SRV records; give _SERVICE._PROTO.NAME, such as \
                    tcp://_repd._tcp.example.org, or a port"
            .into());
    }
    Ok(Address::Srv { name: name.into() })
}

fn ipc(path: &str) -> Result<Address, String> {
    if path.len() > MAX_PATH {
        let length = path.len();
        return Err(format!("that path has {length} bytes; give one of at most {MAX_PATH}"));
    }
    match path.strip_prefix('@') {
        _ if path == "*" => Err("no path; name a file, such as ipc:///run/repd.sock".into()),
        Some("") => Err("no name behind the @; give ipc://@NAME".into()),
        Some(name) => Ok(Address::Abstract { name: name.into() }),
        None if path.is_empty() => {
            Err("no path; give ipc://PATH, such as ipc:///run/repd.sock".into())
        }
        None if Path::new(path).file_name().is_none() || path.ends_with('/') => {
            Err("that is a folder; name a file in it".into())
        }
        None => Ok(Address::Ipc { path: path.into() }),
    }
}

/// Maximum length of the name of a descriptor in bytes (systemd.socket(5), FileDescriptorName=).
const MAX_NAME: usize = 255;

fn inherited(name: &str) -> Result<Address, String> {
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.contains([':', '/']);
    if !is_name {
        return Err("no such name; give that of FileDescriptorName= in the socket unit, \
                    such as fd://clients"
            .into());
    }
    Ok(Address::Inherited { name: name.into() })
}
