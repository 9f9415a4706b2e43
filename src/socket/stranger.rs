//! What somebody is that is no peer: by the first four bytes that it says, or its type of socket.

/// The types of sockets, by their numbers.
const SOCKET_TYPES: [&str; 12] = [
    "a PAIR", "a PUB", "a SUB", "a REQ", "a REP", "a DEALER", "a ROUTER", "a PULL", "a PUSH",
    "an XPUB", "an XSUB", "a STREAM",
];

/// Returns what somebody does who says that first, such as "speaks HTTP, not ZMTP".
pub(super) fn says(first: [u8; 4]) -> String {
    match protocol(&first) {
        Some(protocol) => format!("speaks {protocol}, not ZMTP"),
        None => format!("does not speak ZMTP, but begins with {}", first.escape_ascii()),
    }
}

/// Returns what somebody is whose socket is of a type that does not match.
pub(super) fn is_of(socket_type: u8) -> String {
    let what = SOCKET_TYPES.get(usize::from(socket_type)).unwrap_or(&"a socket of another type");
    format!("is {what}, which does not serve REQ clients")
}

/// Returns the protocol whose servers, or clients, begin like that.
pub(super) fn protocol(first: &[u8; 4]) -> Option<&'static str> {
    Some(match first {
        // Without a header, as to a client of HTTP/0.9, it is a page that says what was wrong.
        b"HTTP" | b"<htm" | b"<!DO" => "HTTP",
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"CONN" | b"PRI " => "HTTP",
        // SETTINGS, which servers of gRPC send first (RFC 9113, section 6.5).
        [0, 0, _, 4] => "HTTP/2",
        // A handshake, or the alert that the greeting was none (RFC 8446, section 5.1).
        [0x15 | 0x16, 3, ..] => "TLS",
        b"SSH-" => "SSH",
        b"220 " | b"220-" => "SMTP or FTP",
        // An offer of options (RFC 854).
        [0xff, 0xfb..=0xfe, ..] => "Telnet",
        b"-ERR" => "Redis or POP3",
        b"RFB " => "VNC",
        b"AMQP" => "AMQP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_escaped() {
        assert_eq!(says(*b"SSH-"), "speaks SSH, not ZMTP");
        assert_eq!(says([0x15, 3, 1, 0]), "speaks TLS, not ZMTP");
        assert_eq!(says(*b"J\0\x1b\""), r#"does not speak ZMTP, but begins with J\x00\x1b\""#);
        assert_eq!(is_of(1), "is a PUB, which does not serve REQ clients");
        assert_eq!(is_of(255), "is a socket of another type, which does not serve REQ clients");
    }
}
