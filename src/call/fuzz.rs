//! What must hold of what `repd call` prints, whatever is replied.

use super::*;

/// Prints a reply. A byte in front of each frame tells its length, if so many follow.
pub fn call_reply(mut bytes: &[u8]) {
    let mut reply: Vec<&[u8]> = Vec::new();
    while let Some(&length) = bytes.split_off_first() {
        reply.extend(bytes.split_off(..bytes.len().min(length.into())));
    }
    let frames: Vec<Frame> = reply.iter().copied().map(Frame::from).collect();
    let printed = |raw| {
        let mut out = Vec::new();
        print(&frames, raw, &mut out).expect("it is written to memory");
        out
    };
    assert_eq!(printed(true), reply.concat());
    let text = String::from_utf8(printed(false)).expect("what is printed is text");
    assert_eq!(text.lines().count(), reply.len());
    check_lines(&text);
    if let Some(fault) = Fault::parse(&reply) {
        assert!((100..1000).contains(&fault.code().get()));
        let written = fault.to_frames();
        assert_eq!(Fault::parse(&written).as_ref(), Some(&fault));
        assert_eq!(written == frames, str::from_utf8(reply[2]).is_ok());
        check_lines(&printable(fault.text().as_bytes()));
    }
}

/// Checks that a text changes no terminal.
fn check_lines(text: &str) {
    for line in text.split('\n') {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(printable(line.as_bytes()), line);
    }
}
