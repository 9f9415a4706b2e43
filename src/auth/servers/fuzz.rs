//! What must hold of lists of servers, whatever is in the file.

use super::*;
use crate::text::printable;

/// Reads a list of servers.
pub fn server_list(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Servers::parse(text) {
        Ok(servers) => {
            let line = |(endpoint, key): &(Endpoint, PublicKey)| format!("{endpoint} {key}\n");
            let written: String = servers.0.iter().map(line).collect();
            let again = Servers::parse(&written).expect("what was read can be written");
            assert_eq!(again.0, servers.0);
            for (endpoint, key) in &servers.0 {
                assert!(endpoint.is_tcp() && servers.key_of(endpoint) == Some(*key));
            }
        }
        Err((line, what)) => {
            assert!((1..=text.lines().count()).contains(&line));
            assert_eq!(printable(what.as_bytes()), what);
            // An endpoint may have as many characters as a key.
            let is_key = |word: &str| word.parse::<PublicKey>().is_ok() && !word.contains("://");
            assert!(!what.split(' ').any(is_key), "it repeats a key: {what}");
        }
    }
}
