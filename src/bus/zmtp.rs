//! ZMTP 3.1 as values: the greeting, the commands, and the bytes of frames. No IO.
//!
//! Sources: RFC 37/ZMTP 3.1 <https://rfc.zeromq.org/spec/37/>, RFC 23/ZMTP 3.0.

use std::fmt;

/// Bytes of a greeting.
pub(super) const GREETING_LEN: usize = 64;

/// More frames of the same message follow.
pub(super) const FLAG_MORE: u8 = 0b001;
/// The length has 8 bytes, not 1.
pub(super) const FLAG_LONG: u8 = 0b010;
/// A command, not a message.
pub(super) const FLAG_COMMAND: u8 = 0b100;

/// The socket types that we are or talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketType {
    Pub,
    Sub,
    Xpub,
    Xsub,
    Push,
    Pull,
}

impl SocketType {
    const ALL: [Self; 6] = [Self::Pub, Self::Sub, Self::Xpub, Self::Xsub, Self::Push, Self::Pull];

    /// As it stands in the metadata of READY.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Xpub => "XPUB",
            Self::Xsub => "XSUB",
            Self::Push => "PUSH",
            Self::Pull => "PULL",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// The valid pairs of RFC 37, section "The Socket-Type property".
    fn talks_to(self, peer: Self) -> bool {
        match self {
            Self::Pub | Self::Xpub => matches!(peer, Self::Sub | Self::Xsub),
            Self::Sub | Self::Xsub => matches!(peer, Self::Pub | Self::Xpub),
            Self::Push => peer == Self::Pull,
            Self::Pull => peer == Self::Push,
        }
    }
}

/// Why a peer can't be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotZmtp,
    Version(u8),
    Mechanism(String),
    SocketType { ours: SocketType, theirs: String },
    NoReady,
    Closed,
    Said(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotZmtp => write!(
                f,
                "expected a ZMTP 3 greeting, found something else (no ZeroMQ socket, or one older than 4.0)"
            ),
            Self::Version(revision) => {
                write!(f, "expected a peer of ZMTP 3, found revision {revision} (ZeroMQ older than 4.0)")
            }
            Self::Mechanism(name) => {
                write!(f, "the peer demands security mechanism {name}; only NULL is supported")
            }
            Self::SocketType { ours, theirs } => {
                write!(f, "the peer is a {theirs} socket, which a {} socket can't talk to", ours.name())
            }
            Self::NoReady => write!(f, "expected the READY command with a Socket-Type, found something else"),
            Self::Closed => {
                write!(f, "the peer closed during the handshake (it may demand a security mechanism)")
            }
            Self::Said(reason) => write!(f, "the peer refused us: {reason:?}"),
        }
    }
}

/// What we send first: signature, version 3.1, mechanism NULL, as-server 0.
fn greeting() -> [u8; GREETING_LEN] {
    let mut bytes = [0; GREETING_LEN];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// The greeting up to the major version, and the rest. libzmq says which mechanism it demands once it knows our
/// version; had it our mechanism as well, it would close without a word if that does not suit it.
pub(super) fn greeting_in_two() -> ([u8; 11], [u8; GREETING_LEN - 11]) {
    let whole = greeting();
    let (mut first, mut rest) = ([0; 11], [0; GREETING_LEN - 11]);
    first.copy_from_slice(&whole[..11]);
    rest.copy_from_slice(&whole[11..]);
    (first, rest)
}

/// Judges as much of a greeting as has come, so that a peer that is no ZMTP 3 peer is refused at its first wrong byte:
/// `Ok(None)` means so far so good, `Ok(Some(minor))` is the whole greeting's minor version.
pub(super) fn check_greeting(bytes: &[u8]) -> Result<Option<u8>, Refusal> {
    match bytes.first() {
        None => return Ok(None),
        Some(0xff) => {}
        Some(_) => return Err(Refusal::NotZmtp),
    }
    if bytes.get(9).is_some_and(|&byte| byte != 0x7f) {
        return Err(Refusal::NotZmtp);
    }
    if let Some(&revision) = bytes.get(10)
        && revision < 3
    {
        return Err(Refusal::Version(revision));
    }
    let Some(whole) = bytes.get(..GREETING_LEN) else {
        return Ok(None);
    };
    let mechanism = &whole[12..32];
    let name_len = mechanism.iter().position(|&byte| byte == 0).unwrap_or(mechanism.len());
    match &mechanism[..name_len] {
        b"NULL" => Ok(Some(whole[11])),
        other => Err(Refusal::Mechanism(shown(other))),
    }
}

/// Judges the first command after the greeting: the peer must be ready and of a type that `ours` talks to.
pub(super) fn check_ready(body: &[u8], ours: SocketType) -> Result<SocketType, Refusal> {
    let properties = match Command::parse(body) {
        Command::Ready(properties) => properties,
        Command::Error(reason) => return Err(Refusal::Said(shown(reason))),
        _ => return Err(Refusal::NoReady),
    };
    let name = property(properties, b"Socket-Type").ok_or(Refusal::NoReady)?;
    match SocketType::from_name(name) {
        Some(theirs) if ours.talks_to(theirs) => Ok(theirs),
        _ => Err(Refusal::SocketType { ours, theirs: shown(name) }),
    }
}

/// Finds a metadata property; names are case-insensitive.
fn property<'a>(mut metadata: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while !metadata.is_empty() {
        let (name, rest) = short_string(metadata)?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let value = rest.get(..len)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        metadata = &rest[len..];
    }
    None
}

/// A string after its length in one byte, and what follows it.
fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

/// Bytes from a peer for a log line: at most 64, escaped.
pub(super) fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(64)].escape_ascii().to_string()
}

/// A command, borrowed from the body of its frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// Metadata.
    Ready(&'a [u8]),
    /// Reason.
    Error(&'a [u8]),
    /// Prefix.
    Subscribe(&'a [u8]),
    /// Prefix.
    Cancel(&'a [u8]),
    /// Time to live in tenths of a second (0: none) and a context to send back.
    Ping { ttl_ds: u16, context: &'a [u8] },
    /// The context of our PING.
    Pong,
    /// Anything else, which is to be ignored; also what is too short.
    Unknown,
}

impl<'a> Command<'a> {
    /// Reads the body of a command frame.
    pub(super) fn parse(body: &'a [u8]) -> Self {
        match short_string(body) {
            Some((b"READY", metadata)) => Self::Ready(metadata),
            Some((b"ERROR", rest)) => Self::Error(short_string(rest).map_or(rest, |(reason, _)| reason)),
            Some((b"SUBSCRIBE", prefix)) => Self::Subscribe(prefix),
            Some((b"CANCEL", prefix)) => Self::Cancel(prefix),
            Some((b"PING", rest)) => match rest.split_first_chunk::<2>() {
                Some((ttl, context)) => Self::Ping { ttl_ds: u16::from_be_bytes(*ttl), context },
                None => Self::Unknown,
            },
            Some((b"PONG", _)) => Self::Pong,
            _ => Self::Unknown,
        }
    }
}

/// Appends a frame: flags, length, body.
pub(super) fn put_frame(out: &mut Vec<u8>, flags: u8, body: &[u8]) {
    put_header(out, flags, body.len());
    out.extend_from_slice(body);
}

/// Appends flags and length of a frame whose body follows.
pub(super) fn put_header(out: &mut Vec<u8>, flags: u8, len: usize) {
    match u8::try_from(len) {
        Ok(short) => out.extend_from_slice(&[flags, short]),
        Err(_) => {
            out.push(flags | FLAG_LONG);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends the READY command of a socket.
pub(super) fn put_ready(out: &mut Vec<u8>, ours: SocketType) {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&(ours.name().len() as u32).to_be_bytes());
    body.extend_from_slice(ours.name().as_bytes());
    put_frame(out, FLAG_COMMAND, &body);
}

/// Appends a subscription or its end: a command for peers of 3.1, a message that starts with 1 or 0 for older ones.
pub(super) fn put_subscription(out: &mut Vec<u8>, peer_minor: u8, wanted: bool, prefix: &[u8]) {
    let (flags, start): (u8, &[u8]) = match (peer_minor, wanted) {
        (0, true) => (0, b"\x01"),
        (0, false) => (0, b"\x00"),
        (_, true) => (FLAG_COMMAND, b"\x09SUBSCRIBE"),
        (_, false) => (FLAG_COMMAND, b"\x06CANCEL"),
    };
    put_header(out, flags, start.len() + prefix.len());
    out.extend_from_slice(start);
    out.extend_from_slice(prefix);
}

/// Appends a PING without time to live, so that the peer never gives us up while our reading is held back.
pub(super) fn put_ping(out: &mut Vec<u8>) {
    put_frame(out, FLAG_COMMAND, b"\x04PING\x00\x00");
}

/// Appends the answer to a PING; its context has at most 16 bytes.
pub(super) fn put_pong(out: &mut Vec<u8>, context: &[u8]) {
    let mut body = b"\x04PONG".to_vec();
    body.extend_from_slice(&context[..context.len().min(16)]);
    put_frame(out, FLAG_COMMAND, &body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn greetings_are_judged_byte_by_byte() {
        let good = greeting();
        for len in 0..GREETING_LEN {
            assert_eq!(check_greeting(&good[..len]), Ok(None), "{len} bytes");
        }
        assert_eq!(check_greeting(&good), Ok(Some(1)));
        let changed = |at: usize, bytes: &[u8]| {
            let mut greeting = good;
            greeting[at..at + bytes.len()].copy_from_slice(bytes);
            check_greeting(&greeting)
        };
        assert_eq!(changed(11, &[0]), Ok(Some(0)));
        assert_eq!(changed(10, &[4]), Ok(Some(1)), "a later version falls back to ours");
        assert_eq!(changed(10, &[1]), Err(Refusal::Version(1)));
        assert_eq!(changed(12, b"PLAIN"), Err(Refusal::Mechanism("PLAIN".into())));
        assert_eq!(changed(12, b"CURVE"), Err(Refusal::Mechanism("CURVE".into())));
        assert_eq!(changed(9, &[0]), Err(Refusal::NotZmtp));
        assert_eq!(check_greeting(b"GET / HTTP/1.1\r\n"), Err(Refusal::NotZmtp));
    }

    #[test]
    fn ready_is_read_back_and_types_are_paired() {
        use SocketType::*;
        let cases = [
            (Sub, Pub, true),
            (Sub, Xpub, true),
            (Xsub, Pub, true),
            (Pub, Xsub, true),
            (Xpub, Sub, true),
            (Pull, Push, true),
            (Sub, Sub, false),
            (Pub, Xpub, false),
            (Pull, Pub, false),
        ];
        for (ours, theirs, fits) in cases {
            let mut out = Vec::new();
            put_ready(&mut out, theirs);
            let judged = check_ready(&out[2..], ours);
            assert_eq!(judged.is_ok(), fits, "{ours:?} {theirs:?}");
        }
        let odd = b"\x05READY\x08Identity\0\0\0\x02ab\x0bsocket-type\0\0\0\x04PUSH\x01X\0\0\0\0";
        assert_eq!(check_ready(odd, Pull), Ok(Push));
        assert_eq!(check_ready(b"\x05READY\x0bSocket-Type\xff\xff\xff\xffPUB", Sub), Err(Refusal::NoReady));
        assert_eq!(check_ready(b"\x05ERROR\x03bad", Sub), Err(Refusal::Said("bad".into())));
        assert_eq!(check_ready(b"", Sub), Err(Refusal::NoReady));
    }

    #[test]
    fn commands_are_read() {
        let cases: [(&[u8], Command<'_>); 7] = [
            (b"\x04PING\x00\x64abc", Command::Ping { ttl_ds: 100, context: b"abc" }),
            (b"\x04PING\x00", Command::Unknown),
            (b"\x04PONG", Command::Pong),
            (b"\x09SUBSCRIBEx.", Command::Subscribe(b"x.")),
            (b"\x06CANCEL", Command::Cancel(b"")),
            (b"\x05HELLO", Command::Unknown),
            (b"\x20PING", Command::Unknown),
        ];
        for (body, expected) in cases {
            assert_eq!(Command::parse(body), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_greeting(&bytes);
            let _ = check_ready(&bytes, SocketType::Sub);
            let mut ready = b"\x05READY".to_vec();
            ready.extend_from_slice(&bytes);
            let _ = check_ready(&ready, SocketType::Sub);
            let _ = Command::parse(&bytes);
        }
    }
}
