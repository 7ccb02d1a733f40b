//! Where lines end: at a line break that does not stand within a text.

/// The lines of a body that are neither empty nor comments, without leading blanks and without their ends.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    /// A text was opened and never closed. From there on every line break ends a line, so that the lines behind it
    /// are read, and so that the rest of the body is not searched again for each of them.
    is_broken: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(body: &'a [u8]) -> Lines<'a> {
        Lines { rest: body, is_broken: false }
    }

    /// What is left of the body, from the next line that is not empty.
    #[inline]
    pub(super) fn rest(&mut self) -> &'a [u8] {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest
    }

    /// Passes over a line that has no text in it, with its end.
    #[inline]
    pub(super) fn pass(&mut self, len: usize) {
        self.rest = &self.rest[len..];
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.rest().is_empty() {
                return None;
            }
            let break_at = find(self.rest, b'\n').unwrap_or(self.rest.len());
            let mut end = break_at;
            let is_comment = self.rest[0] == b'#';
            if !is_comment && !self.is_broken && find(&self.rest[..break_at], b'"').is_some() {
                let closed_end = end_behind_texts(self.rest);
                self.is_broken = closed_end.is_none();
                end = closed_end.unwrap_or(break_at);
            }
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !is_comment {
                return Some(line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
    }
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// The end of the line that `bytes` begins with. A text is opened by a quote that follows the equals sign of a field,
/// and closed by the next one without a backslash. None if a text is still open where the bytes end.
fn end_behind_texts(bytes: &[u8]) -> Option<usize> {
    let (mut in_fields, mut at) = (false, 0);
    while let Some(byte) = bytes.get(at) {
        // The line begins with something else than a blank.
        let is_escaped = at > 0 && bytes[at - 1] == b'\\';
        match byte {
            b'\n' => return Some(at),
            b' ' if !is_escaped => in_fields = true,
            b'=' if in_fields && !is_escaped && bytes.get(at + 1) == Some(&b'"') => {
                at += 2 + text_len(&bytes[at + 2..])?;
            }
            _ => {}
        }
        at += 1;
    }
    Some(bytes.len())
}

/// Bytes of a text up to its closing quote; none if it has none.
pub(super) fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
