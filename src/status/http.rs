//! What is read and written of HTTP/1.1 (RFC 9112): a request without a body, and one response.

use std::fmt::Write;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// Maximum number of bytes of a request, and of its header fields.
pub(super) const MAX_REQUEST: usize = 8192;
const MAX_FIELDS: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Without the query.
    pub path: String,
    /// Only the head of the response is wanted.
    pub is_head: bool,
    /// The media types that the client takes.
    pub accept: String,
}

/// A request that cannot be answered, with the status that its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub Status);

/// The status of a response (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    NotAllowed,
    TooLarge,
    Unavailable,
}

impl Status {
    /// Returns its code and name.
    pub fn text(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::NotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Reads a request from the first bytes that a client has sent; returns `None` if there must be more.
///
/// # Errors
/// The refusal that its client is told.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Request>, Refused> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => (),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refused(Status::TooLarge));
        }
        Err(_) => return Err(Refused(Status::BadRequest)),
    }
    let is_head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Refused(Status::NotAllowed)),
    };
    let target = parsed.path.unwrap_or_default();
    // The absolute form (RFC 9112, section 3.2.2).
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => target,
    };
    let path = target.split('?').next().unwrap_or_default().to_string();
    let accept = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("accept"));
    let accept = accept.map(|field| String::from_utf8_lossy(field.value).to_lowercase());
    Ok(Some(Request { path, is_head, accept: accept.unwrap_or_default() }))
}

/// Returns the head of a response with a body of so many bytes. `policy` is what its page may load.
pub(super) fn head(status: Status, media_type: &str, length: usize, policy: &str) -> String {
    let mut head = format!("HTTP/1.1 {}\r\nContent-Type: {media_type}\r\n", status.text());
    if status == Status::NotAllowed {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    // Writing to a String never fails.
    let _ = write!(
        head,
        "Content-Length: {length}\r\n\
         Content-Security-Policy: {policy}\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    );
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(status: Status) -> Result<Option<Request>, Refused> {
        Err(Refused(status))
    }

    #[test]
    fn a_request_is_read_once_all_of_its_head_has_come() {
        let text = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT: Text/Plain\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]), Ok(None), "{length}");
        }
        let expected =
            Request { path: "/metrics".into(), is_head: false, accept: "text/plain".into() };
        assert_eq!(parse(text), Ok(Some(expected)));
        let head = parse(b"HEAD http://host:1/healthz HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.is_head), ("/healthz", true));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (bytes, status) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], Status::NotAllowed),
            (b"\x16\x03\x01\x02\x00", Status::BadRequest),
            (b"GET /\r\n\r\n", Status::BadRequest),
            (b"GET / HTTP/2.0\r\n\r\n", Status::BadRequest),
            (&[&b"GET / HTTP/1.1\r\na:"[..], &[b'a'; MAX_REQUEST]].concat(), Status::TooLarge),
            (
                &[b"GET / HTTP/1.1\r\n", &b"a: b\r\n".repeat(MAX_FIELDS + 1)[..]].concat(),
                Status::TooLarge,
            ),
        ] {
            assert_eq!(parse(bytes), refused(status), "{:?}", bytes.escape_ascii().to_string());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused_or_too_few(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET / HTTP/1.1\r\n", &bytes[..]].concat());
        }
    }
}
