//! What must hold of requests for the status, whatever is sent.

use super::*;

/// Reads the bytes after the first two, which tell how many of them come first.
pub fn http_request(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first_chunk() else { return };
    let bytes = &bytes[..bytes.len().min(MAX_REQUEST)];
    let whole = parse(bytes);
    let first = usize::from(u16::from_be_bytes(*cut)) % (bytes.len() + 1);
    let begun = parse(&bytes[..first]);
    assert!(begun == Ok(None) || begun == whole, "it depends on what comes after it: {begun:?}");
    match whole {
        Ok(Some(request)) => {
            // Empty lines may come before it (RFC 9112, section 2.2).
            let line = bytes.trim_ascii_start();
            assert!(line.starts_with(if request.is_head { b"HEAD " } else { b"GET " }));
            assert!(!request.path.contains(|c: char| "? \r\n".contains(c) || c.is_ascii_control()));
            assert_eq!(request.accept.to_lowercase(), request.accept);
            // What is no UTF-8 takes three bytes for one.
            assert!(request.path.len() + request.accept.len() <= 3 * bytes.len());
        }
        Ok(None) => assert!(bytes.len() < MAX_REQUEST, "there is no end to it"),
        Err(Refused(status)) => {
            assert!(matches!(status, Status::BadRequest | Status::NotAllowed | Status::TooLarge))
        }
    }
}
