//! What must hold of the reader of a program's replies, whatever the program writes.

use super::*;

const MAX_BYTES: usize = 300;
const MAX_FRAMES: usize = 4;

/// What an output is.
#[derive(Debug, PartialEq)]
enum Outcome {
    Reply(Vec<Frame>),
    Unfinished,
    TooLarge,
    Malformed,
}

/// Reads what a program writes: the bytes after the first three, which tell the framing, and the
/// sizes of the pieces in which it comes.
pub fn program_reply(bytes: &[u8]) {
    let Some((&[framing, odd, even], output)) = bytes.split_first_chunk() else { return };
    // The digits from 0 to 3, as the seeds have them.
    let (framing, multipart) = match framing % 4 {
        0 => (Framing::Packet, false),
        1 => (Framing::Packet, true),
        2 => (Framing::Lines, false),
        _ => (Framing::Once, false),
    };
    let format = Format { framing, multipart, max_bytes: MAX_BYTES, max_frames: MAX_FRAMES };
    let outcome = read(format, [output].into_iter());
    assert_eq!(outcome, read(format, pieces(output, [odd, even])), "it depends on the pieces");
    let Outcome::Reply(frames) = outcome else { return };
    assert!((1..=MAX_FRAMES).contains(&frames.len()));
    assert!(frames.iter().map(|frame| frame.len()).sum::<usize>() <= MAX_BYTES);
    let mut written = Vec::new();
    format.encode(None, &frames, &mut written).expect("the framing can express what it has read");
    assert_eq!(written, output);
}

/// Cuts an output into pieces of these sizes, in turns, and one byte more each.
fn pieces(mut output: &[u8], sizes: [u8; 2]) -> impl Iterator<Item = &[u8]> {
    let mut sizes = sizes.into_iter().cycle();
    std::iter::from_fn(move || {
        let size = 1 + usize::from(sizes.next()?);
        let piece = output.split_off(..size.min(output.len()))?;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

fn read<'a>(format: Format, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = Reader::new(format);
    let mut reply = None;
    for piece in pieces {
        if reply.is_some() {
            return Outcome::Malformed;
        }
        reply = match reader.push(piece) {
            Ok(reply) => reply,
            Err(invalid) => {
                check_text(&invalid);
                return match invalid {
                    InvalidReply::TooLarge(_) => Outcome::TooLarge,
                    InvalidReply::Malformed { .. } => Outcome::Malformed,
                };
            }
        };
        // No more than a reply and the length of one frame.
        assert!(reader.frame_bytes + reader.bytes.len() <= MAX_BYTES + size_of::<u32>());
    }
    reader.unfinished().iter().for_each(check_text);
    match reply {
        Some(frames) => Outcome::Reply(frames),
        None if format.framing == Framing::Once => Outcome::Reply(reader.finish()),
        None => Outcome::Unfinished,
    }
}

/// Checks that what is logged of an output is short, and that it changes no terminal.
fn check_text(invalid: &InvalidReply) {
    let reason = invalid.reason();
    assert_eq!(printable(reason.as_bytes()), reason);
    // A byte is shown by ten characters at most.
    assert!(reason.len() <= 10 * MAX_QUOTED_BYTES + 80, "{reason}");
}
