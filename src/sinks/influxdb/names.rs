//! Names and tag values as InfluxDB can hold them, and back.
//!
//! Line protocol has no way to write some texts: a line break ends a line, a `#` begins a comment, and a
//! backslash cannot itself be escaped, so that one at the end of a tag value eats the comma behind it
//! (influxdata/influxdb#5231). Servers also read `\\` differently. Such a character is written as one that looks
//! like it and means nothing: [`stand_in`] shows which. Readers put the characters back.
//!
//! Some names mean something else: a field `time` is dropped without a word by 1.x, and a tag `time` is refused,
//! as is a field with the name of a tag by 3. Such a name gets an underscore more, and so does one that
//! already looks like that, so that two names never become one and [`unmarked`] is exact.

use std::borrow::Cow;

/// Keys that are not ours: the time, and the columns of Flux.
const RESERVED: [&str; 7] = ["time", "_time", "_start", "_stop", "_measurement", "_field", "_value"];

/// What an empty name is called.
pub(super) const UNNAMED: &str = "unnamed";

const BACKSLASH: char = '\u{29f5}';
const HASH: char = '\u{ff03}';

/// The character to write in place of `c`, which stands `first` in its text or not, before `next`.
fn stand_in(c: char, first: bool, next: Option<char>) -> Option<char> {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32),
        '\x7f' => Some('\u{2421}'),
        '#' if first => Some(HASH),
        '\\' if matches!(next, None | Some('\\' | ',' | '=' | ' ' | '"')) => Some(BACKSLASH),
        _ => None,
    }
}

fn put_back(c: char) -> char {
    match c {
        '\u{2400}'..='\u{241f}' => char::from_u32(c as u32 - 0x2400).unwrap_or(c),
        '\u{2421}' => '\x7f',
        HASH => '#',
        BACKSLASH => '\\',
        other => other,
    }
}

/// `text` with what line protocol cannot hold replaced.
pub(super) fn held(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'#' | b'\\' | 0x7f)) {
        return Cow::Borrowed(text);
    }
    let mut next = text.chars();
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        next.next();
        out.push(stand_in(c, at == 0, next.clone().next()).unwrap_or(c));
    }
    Cow::Owned(out)
}

/// What [`held`] was made from.
pub(super) fn restored(text: &str) -> Cow<'_, str> {
    match text.chars().any(|c| put_back(c) != c) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.chars().map(put_back).collect()),
    }
}

/// A tag's key as it is stored.
pub(super) fn tag_key(name: &str) -> Cow<'_, str> {
    marked(name, &|name| RESERVED.iter().any(|word| is_marked(name, word)))
}

/// A field's key as it is stored in a line that has the tags of these stored keys.
pub(super) fn field_key<'a, T: AsRef<str>>(metric: &'a str, tag_keys: &[T]) -> Cow<'a, str> {
    marked(metric, &|name| clashes(name, tag_keys))
}

/// The tag's name of a stored key.
pub(super) fn tag_name(key: &str) -> String {
    unmarked(key, |key| RESERVED.iter().any(|word| is_marked(key, word)))
}

/// The metric's name of a stored key.
pub(super) fn metric_name<T: AsRef<str>>(key: &str, tag_keys: &[T]) -> String {
    unmarked(key, |key| clashes(key, tag_keys))
}

fn clashes<T: AsRef<str>>(name: &str, tag_keys: &[T]) -> bool {
    RESERVED.iter().any(|word| is_marked(name, word))
        || tag_keys.iter().any(|key| is_marked(name, key.as_ref()))
}

/// Whether `name` is `word` with any number of underscores behind it.
fn is_marked(name: &str, word: &str) -> bool {
    name.strip_prefix(word).is_some_and(|rest| rest.bytes().all(|byte| byte == b'_'))
}

fn marked<'a>(name: &'a str, clashes: &dyn Fn(&str) -> bool) -> Cow<'a, str> {
    let name = if name.is_empty() { UNNAMED } else { name };
    let held = held(name);
    match clashes(&held) {
        false => held,
        true => Cow::Owned(held.into_owned() + "_"),
    }
}

fn unmarked(key: &str, clashes: impl Fn(&str) -> bool) -> String {
    let bare = key.strip_suffix('_').filter(|bare| clashes(bare));
    restored(bare.unwrap_or(key)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stands_for_what() {
        for (text, expect) in [
            ("plain ü,= \"", "plain ü,= \""),
            ("a\nb\r\0", "a␊b␍␀"),
            ("\x7f", "␡"),
            ("#a#", "＃a#"),
            ("C:\\", "C:⧵"),
            ("C:\\dir", "C:\\dir"),
            ("\\\\srv\\x", "⧵\\srv\\x"),
            ("a\\ b\\,c\\=d\\\"", "a⧵ b⧵,c⧵=d⧵\""),
        ] {
            assert_eq!(held(text), expect);
            assert_eq!(restored(expect), text);
        }
    }

    #[test]
    fn names_that_mean_something_else() {
        let tags = ["host", "disk_"];
        for (metric, expect) in [
            ("time", "time_"),
            ("time_", "time__"),
            ("times", "times"),
            ("_value", "_value_"),
            ("host", "host_"),
            ("host__", "host___"),
            ("hosts", "hosts"),
            ("disk", "disk"),
            ("disk_", "disk__"),
            ("", "unnamed"),
        ] {
            let key = field_key(metric, &tags);
            assert_eq!(key, expect);
            let back = if metric.is_empty() { UNNAMED } else { metric };
            assert_eq!(metric_name(&key, &tags), back);
        }
        assert_eq!((tag_key("time").as_ref(), tag_key("host").as_ref()), ("time_", "host"));
        assert_eq!((tag_name("time_").as_str(), tag_name("host").as_str()), ("time", "host"));
    }

    proptest! {
        /// Two metrics never become one field, and each comes back.
        #[test]
        fn names_stay_apart_and_come_back(
            names in prop::collection::hash_set("(time|a|b|_field|\\PC)?_{0,3}[#\\\\, =]{0,2}", 1..6),
            tags in prop::collection::vec("(a|b|time)_{0,2}", 0..3),
        ) {
            let keys: Vec<_> = tags.iter().map(|name| tag_key(name).into_owned()).collect();
            let mut seen = std::collections::HashSet::new();
            for name in names.iter().filter(|name| !name.is_empty() && restored(name) == **name) {
                let key = field_key(name, &keys).into_owned();
                prop_assert_eq!(&metric_name(&key, &keys), name);
                prop_assert!(seen.insert(key));
                prop_assert_eq!(&tag_name(&tag_key(name)), name);
            }
        }
    }
}
