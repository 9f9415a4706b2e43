//! Tests of how output is read as replies.

use super::*;
use proptest::prelude::*;

const MAX_BODY: usize = 300;
const MAX_FRAMES: usize = 4;
const MAX_BYTES: usize = MAX_FRAMES * MAX_BODY;

fn format(framing: Framing, multipart: bool) -> Format {
    Format { framing, multipart, max_bytes: MAX_BYTES, max_frames: MAX_FRAMES }
}

fn packets(multipart: bool) -> Format {
    format(Framing::Packet, multipart)
}

const LINES: fn() -> Format = || format(Framing::Lines, false);

fn frames(bodies: &[Vec<u8>]) -> Vec<Frame> {
    bodies.iter().map(|body| Frame::from(&body[..])).collect()
}

/// Returns what a reader makes of `bytes` that come in pieces of these sizes, repeated.
fn read(format: Format, bytes: &[u8], parts: &[usize]) -> Result<Option<Vec<Frame>>, InvalidReply> {
    let mut reader = Reader::new(format);
    let (mut rest, mut sizes) = (bytes, parts.iter().cycle());
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = after;
        match reader.push(part)? {
            Some(_) if !rest.is_empty() => {
                return Err(InvalidReply::Malformed { reason: "more".into(), hint: "" });
            }
            Some(reply) => return Ok(Some(reply)),
            None => (),
        }
    }
    Ok(None)
}

fn bodies(max: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=MAX_BODY), 1..=max)
}

fn parts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..400, 1..6)
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_it_comes(
        bodies in bodies(MAX_FRAMES), parts in parts(),
    ) {
        let mut bytes = Vec::new();
        packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
        prop_assert_eq!(read(packets(true), &bytes, &parts), Ok(Some(frames(&bodies))));
        let (mut bytes, first) = (Vec::new(), &bodies[..1]);
        packets(false).encode(None, &frames(first), &mut bytes).unwrap();
        prop_assert_eq!(read(packets(false), &bytes, &parts), Ok(Some(frames(first))));
    }

    #[test]
    fn a_line_is_read_however_it_comes(mut body in bodies(1), parts in parts()) {
        body[0].retain(|byte| *byte != b'\n');
        let mut bytes = Vec::new();
        LINES().encode(None, &frames(&body), &mut bytes).unwrap();
        prop_assert_eq!(read(LINES(), &bytes, &parts), Ok(Some(frames(&body))));
    }

    #[test]
    fn what_is_cut_short_is_no_reply(
        bodies in bodies(MAX_FRAMES), parts in parts(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
        bytes.truncate(cut.index(bytes.len()));
        prop_assert_eq!(read(packets(true), &bytes, &parts), Ok(None));
    }

    #[test]
    fn what_has_more_behind_it_is_broken(
        bodies in bodies(MAX_FRAMES), parts in parts(), more in 1_usize..9,
    ) {
        for format in [packets(true), LINES()] {
            let mut bytes = Vec::new();
            match format.framing {
                Framing::Lines => bytes.extend(b"a line\n"),
                _ => format.encode(None, &frames(&bodies), &mut bytes).unwrap(),
            }
            bytes.extend(vec![0; more]);
            prop_assert!(read(format, &bytes, &parts).is_err());
        }
    }

    #[test]
    fn what_is_too_long_is_broken_as_soon_as_it_is_known(
        length in MAX_BYTES + 1..=u32::MAX as usize, parts in parts(),
    ) {
        let head = (length as u32).to_be_bytes();
        prop_assert!(read(packets(false), &head, &parts).is_err());
        if length & MORE as usize == 0 {
            prop_assert!(read(packets(true), &head, &parts).is_err());
        }
        let line = vec![b'x'; length.min(2 * MAX_BYTES)];
        prop_assert!(read(LINES(), &line, &parts).is_err());
        prop_assert!(read(format(Framing::Once, false), &line, &parts).is_err());
    }

    #[test]
    fn whatever_is_read_a_reply_is_within_the_limits(
        bytes in prop::collection::vec(any::<u8>(), 0..2000), parts in parts(),
    ) {
        for framing in [Framing::Packet, Framing::Lines, Framing::Once] {
            for multipart in [true, false] {
                let reply = read(format(framing, multipart), &bytes, &parts);
                let Ok(Some(reply)) = reply else { continue };
                prop_assert!(!reply.is_empty() && reply.len() <= MAX_FRAMES);
                prop_assert!(reply.iter().map(|frame| frame.len()).sum::<usize>() <= MAX_BYTES);
            }
        }
    }
}

#[test]
fn the_frames_of_a_reply_are_bounded_together() {
    let read_frames = |lengths: [usize; 2]| {
        let bodies = lengths.map(|length| vec![b'x'; length]);
        let mut bytes = Vec::new();
        packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
        read(packets(true), &bytes, &[50])
    };
    assert!(read_frames([MAX_BYTES / 2, MAX_BYTES / 2]).is_ok());
    assert!(matches!(
        read_frames([MAX_BYTES / 2, MAX_BYTES / 2 + 1]),
        Err(InvalidReply::TooLarge(_))
    ));
}

#[test]
fn a_reply_of_too_many_frames_is_broken() {
    let mut bytes = Vec::new();
    packets(true).encode(None, &frames(&vec![vec![1]; MAX_FRAMES + 1]), &mut bytes).unwrap();
    assert!(read(packets(true), &bytes, &[7]).is_err());
}

#[test]
fn with_once_all_of_the_output_is_one_reply() {
    let mut reader = Reader::new(format(Framing::Once, false));
    assert_eq!(reader.push(b"a\n"), Ok(None));
    assert_eq!(reader.push(b"b"), Ok(None));
    assert_eq!(reader.finish(), [Frame::from("a\nb")]);
}
