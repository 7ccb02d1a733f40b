//! Bytes of a connection -> messages and commands. No IO, no copies: what is found are positions in the slab.
//!
//! The scanner never asks for more room than the limit allows: a length is judged when its header is read, before
//! any byte of the body has come.

use std::fmt;
use std::ops::Range;

use super::zmtp::{FLAG_COMMAND, FLAG_LONG, FLAG_MORE};

/// Most bytes of a command's body.
pub(super) const COMMAND_LEN_MAX: usize = 64 * 1024;
/// Most frames of a message, commands between them included.
pub(super) const FRAMES_MAX: u32 = 256;

/// What a peer did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A frame, or the frames of one message together, are longer than allowed.
    Oversize { announced: u64, limit: usize },
    /// A message of more frames than [`FRAMES_MAX`].
    TooManyFrames,
    /// Flags that mean nothing in ZMTP 3.
    Flags(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize { announced, limit } => {
                write!(f, "expected at most {limit} bytes in a message, found {announced}")
            }
            Self::TooManyFrames => write!(f, "expected at most {FRAMES_MAX} frames in a message, found more"),
            Self::Flags(flags) => write!(f, "expected the flags of a ZMTP 3 frame, found {flags:#04x}"),
        }
    }
}

/// A whole message: positions in the slab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// From the header of the first frame to the end of the last.
    pub wire: Range<usize>,
    /// Body of the first frame.
    pub first: Range<usize>,
    /// Body of the second frame; empty if there is none.
    pub second: Range<usize>,
    /// Number of frames.
    pub frames: u32,
    /// Commands stand between its frames, as libzmq's heartbeats may.
    pub interrupted: bool,
}

/// What comes next in the slab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Message(Found),
    /// Body of a command frame.
    Command(Range<usize>),
    /// At least so many bytes are missing.
    Need(usize),
}

/// The position of a connection in its slab.
#[derive(Debug)]
pub(super) struct Scanner {
    body_len_max: usize,
    at: usize,
    body_len: usize,
    commands: u32,
    open: Found,
}

impl Scanner {
    /// A scanner for an empty slab; `body_len_max` bounds one frame, and all frames of one message together.
    pub(super) fn new(body_len_max: usize) -> Self {
        Self { body_len_max, at: 0, body_len: 0, commands: 0, open: Found::default() }
    }

    /// Bytes at the start of the slab that no unfinished message needs.
    pub(super) fn consumed(&self) -> usize {
        if self.open.frames == 0 { self.at } else { self.open.wire.start }
    }

    /// Says that the first `len` bytes of the slab were taken away; at most [`Scanner::consumed`].
    pub(super) fn rebase(&mut self, len: usize) {
        debug_assert!(len <= self.consumed());
        self.at -= len;
        if self.open.frames > 0 {
            for range in [&mut self.open.wire, &mut self.open.first, &mut self.open.second] {
                *range = range.start.saturating_sub(len)..range.end.saturating_sub(len);
            }
        }
    }

    /// Reads on. After [`Step::Need`] call it again with a longer slab that starts with the same bytes.
    #[inline]
    pub(super) fn step(&mut self, slab: &[u8]) -> Result<Step, Fault> {
        loop {
            let frame = match read_header(&slab[self.at..]) {
                Ok(frame) => frame,
                Err(missing) => {
                    // Flags are judged even if the length has not come yet.
                    return match slab.get(self.at) {
                        Some(&flags) if !flags_known(flags) => Err(Fault::Flags(flags)),
                        _ => Ok(Step::Need(missing)),
                    };
                }
            };
            let len = self.judge(&frame)?;
            let body = self.at + frame.header_len..self.at + frame.header_len + len;
            if body.end > slab.len() {
                return Ok(Step::Need(body.end - slab.len()));
            }
            let start = std::mem::replace(&mut self.at, body.end);
            if self.open.frames == 0 && frame.flags & (FLAG_MORE | FLAG_COMMAND) == 0 {
                // The most frequent message, of one frame, needs no state.
                return Ok(Step::Message(Found {
                    wire: start..body.end,
                    first: body,
                    second: 0..0,
                    frames: 1,
                    interrupted: false,
                }));
            }
            if frame.flags & FLAG_COMMAND != 0 {
                if self.open.frames > 0 {
                    self.commands += 1;
                    self.open.interrupted = true;
                }
                return Ok(Step::Command(body));
            }
            if let Some(found) = self.take(start, body, frame.flags & FLAG_MORE != 0) {
                return Ok(Step::Message(found));
            }
        }
    }

    /// Length of the body, if it is allowed.
    #[inline]
    fn judge(&self, frame: &Header) -> Result<usize, Fault> {
        if !flags_known(frame.flags) {
            return Err(Fault::Flags(frame.flags));
        }
        let (taken, limit) = if frame.flags & FLAG_COMMAND != 0 {
            (0, COMMAND_LEN_MAX)
        } else {
            (self.body_len, self.body_len_max)
        };
        if self.open.frames + self.commands >= FRAMES_MAX {
            return Err(Fault::TooManyFrames);
        }
        match usize::try_from(frame.body_len) {
            Ok(len) if len <= limit - taken => Ok(len),
            _ => Err(Fault::Oversize { announced: frame.body_len.saturating_add(taken as u64), limit }),
        }
    }

    /// Adds a frame to the open message; gives the message if that was its last frame.
    fn take(&mut self, start: usize, body: Range<usize>, more: bool) -> Option<Found> {
        self.body_len += body.len();
        match self.open.frames {
            0 => {
                self.open.wire = start..body.end;
                self.open.first = body;
            }
            1 => self.open.second = body,
            _ => {}
        }
        self.open.frames += 1;
        if more {
            return None;
        }
        self.open.wire.end = self.at;
        self.body_len = 0;
        self.commands = 0;
        Some(std::mem::take(&mut self.open))
    }
}

/// The frames of an interrupted message without the commands between them: `wire` as a [`Found`] gave it.
pub(super) fn without_commands(wire: &[u8], out: &mut Vec<u8>) {
    let mut rest = wire;
    while let Ok(frame) = read_header(rest) {
        let len = frame.header_len + frame.body_len as usize;
        let Some((whole, after)) = rest.split_at_checked(len) else {
            return;
        };
        if frame.flags & FLAG_COMMAND == 0 {
            out.extend_from_slice(whole);
        }
        rest = after;
    }
}

/// Known flags: MORE and LONG on messages, LONG on commands.
fn flags_known(flags: u8) -> bool {
    flags & !(FLAG_MORE | FLAG_LONG) == 0 || flags & !FLAG_LONG == FLAG_COMMAND
}

struct Header {
    flags: u8,
    header_len: usize,
    body_len: u64,
}

/// Reads flags and length, or says how many bytes are missing for them.
#[inline]
fn read_header(bytes: &[u8]) -> Result<Header, usize> {
    match *bytes {
        [flags, len, ..] if flags & FLAG_LONG == 0 => {
            Ok(Header { flags, header_len: 2, body_len: u64::from(len) })
        }
        [flags, a, b, c, d, e, f, g, h, ..] => {
            Ok(Header { flags, header_len: 9, body_len: u64::from_be_bytes([a, b, c, d, e, f, g, h]) })
        }
        [flags, ..] if flags & FLAG_LONG != 0 => Err(9 - bytes.len()),
        _ => Err(2 - bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::zmtp::{put_frame, put_ping};
    use super::*;
    use proptest::prelude::*;

    /// What a stream holds, by content: messages as lists of their first two frames, commands by their bodies.
    #[derive(Clone, Debug, PartialEq)]
    enum Seen {
        Message(u32, Vec<u8>, Vec<u8>),
        Command(Vec<u8>),
    }

    /// Feeds the pieces one after the other as a connection does, dropping what was consumed in between.
    fn scan(pieces: &[&[u8]], limit: usize) -> (Vec<Seen>, Option<Fault>) {
        let (mut scanner, mut slab, mut seen) = (Scanner::new(limit), Vec::new(), Vec::new());
        for piece in pieces {
            slab.extend_from_slice(piece);
            loop {
                match scanner.step(&slab) {
                    Ok(Step::Message(found)) => seen.push(Seen::Message(
                        found.frames,
                        slab[found.first].to_vec(),
                        slab[found.second].to_vec(),
                    )),
                    Ok(Step::Command(body)) => seen.push(Seen::Command(slab[body].to_vec())),
                    Ok(Step::Need(missing)) => {
                        assert!(missing > 0 && missing <= limit.max(COMMAND_LEN_MAX) + 9);
                        break;
                    }
                    Err(fault) => return (seen, Some(fault)),
                }
            }
            let consumed = scanner.consumed();
            slab.drain(..consumed);
            scanner.rebase(consumed);
        }
        (seen, None)
    }

    fn one(bytes: &[u8], limit: usize) -> (Vec<Seen>, Option<Fault>) {
        scan(&[bytes], limit)
    }

    #[test]
    fn a_terabyte_is_refused_from_its_header() {
        let mut header = vec![FLAG_LONG];
        header.extend_from_slice(&(1u64 << 40).to_be_bytes());
        let fault = Fault::Oversize { announced: 1 << 40, limit: 100 };
        assert_eq!(one(&header, 100), (vec![], Some(fault)));
    }

    #[test]
    fn limits() {
        let frame = |flags, len| {
            let mut out = Vec::new();
            put_frame(&mut out, flags, &vec![7; len]);
            out
        };
        let (seen, fault) = one(&frame(0, 300), 300);
        assert_eq!((seen.len(), fault), (1, None), "exactly the limit");
        let (_, fault) = one(&frame(0, 301), 300);
        assert_eq!(fault, Some(Fault::Oversize { announced: 301, limit: 300 }));
        let together = [frame(FLAG_MORE, 200), frame(0, 101)].concat();
        assert_eq!(one(&together, 300).1, Some(Fault::Oversize { announced: 301, limit: 300 }));
        let (_, fault) = one(&frame(FLAG_COMMAND, COMMAND_LEN_MAX + 1), 1 << 20);
        assert!(matches!(fault, Some(Fault::Oversize { .. })));
        let endless = frame(FLAG_MORE, 0).repeat(300);
        assert_eq!(one(&endless, 300).1, Some(Fault::TooManyFrames));
        let mut pings = frame(FLAG_MORE, 1);
        (0..300).for_each(|_| put_ping(&mut pings));
        assert_eq!(one(&pings, 300).1, Some(Fault::TooManyFrames));
        for flags in [0x08, 0x80, FLAG_COMMAND | FLAG_MORE] {
            assert_eq!(one(&[flags], 300).1, Some(Fault::Flags(flags)));
        }
    }

    #[test]
    fn commands_may_stand_between_frames() {
        let mut wire = Vec::new();
        put_frame(&mut wire, FLAG_MORE, b"topic");
        put_ping(&mut wire);
        put_frame(&mut wire, 0, b"payload");
        let (seen, fault) = one(&wire, 100);
        assert_eq!(fault, None);
        assert_eq!(seen[0], Seen::Command(b"\x04PING\0\0".to_vec()));
        assert_eq!(seen[1], Seen::Message(2, b"topic".to_vec(), b"payload".to_vec()));
        let mut clean = Vec::new();
        without_commands(&wire, &mut clean);
        let mut expected = Vec::new();
        put_frame(&mut expected, FLAG_MORE, b"topic");
        put_frame(&mut expected, 0, b"payload");
        assert_eq!(clean, expected);
    }

    /// One message or command as bytes, and what is to be seen of it.
    fn traffic() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
        let body = || prop::collection::vec(any::<u8>(), 0usize..300);
        let message = (prop::collection::vec(body(), 1..5), any::<bool>()).prop_map(|(frames, ping)| {
            let (mut wire, mut seen) = (Vec::new(), Vec::new());
            for (i, frame) in frames.iter().enumerate() {
                let last = i + 1 == frames.len();
                put_frame(&mut wire, if last { 0 } else { FLAG_MORE }, frame);
                if ping && !last {
                    put_ping(&mut wire);
                    seen.push(Seen::Command(b"\x04PING\0\0".to_vec()));
                }
            }
            let second = frames.get(1).cloned().unwrap_or_default();
            seen.push(Seen::Message(frames.len() as u32, frames[0].clone(), second));
            (wire, seen)
        });
        let command = body().prop_map(|body| {
            let mut wire = Vec::new();
            put_frame(&mut wire, FLAG_COMMAND, &body);
            (wire, vec![Seen::Command(body)])
        });
        prop_oneof![3 => message, 1 => command]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            parts in prop::collection::vec(traffic(), 1..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let wire: Vec<u8> = parts.iter().flat_map(|(wire, _)| wire.clone()).collect();
            let expected: Vec<Seen> = parts.into_iter().flat_map(|(_, seen)| seen).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(scan(&pieces, 2000), (expected.clone(), None));
            let bytes: Vec<&[u8]> = wire.chunks(1).collect();
            prop_assert_eq!(scan(&bytes, 2000), (expected, None));
        }

        #[test]
        fn any_bytes_end_in_positions_or_a_fault(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..60), 0..8),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (_, whole_fault) = scan(&[&pieces.concat()], 50);
            let (_, split_fault) = scan(&pieces, 50);
            prop_assert_eq!(whole_fault, split_fault);
        }
    }
}
