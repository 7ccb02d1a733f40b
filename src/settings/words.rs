//! Value types of the configuration: choices, secrets, addresses.

use std::fmt;

/// Declares an enum whose values are words of the configuration; after `|` further accepted spellings.
macro_rules! choice {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $word:literal $(| $other:literal)* => $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Its words, one for each value.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value that `word` names.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word $(| $other)* => Some($name::$variant),)+ _ => None }
            }
        }

        impl $crate::settings::words::Word for $name {
            const ALL: &'static [&'static str] = Self::WORDS;
            fn parse(word: &str) -> Option<Self> {
                Self::from_word(word)
            }
            fn spelled(self) -> &'static str {
                self.word()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(super) use choice;

/// What `choice!` gives, for those who read any choice.
pub(super) trait Word: Sized + Copy + 'static {
    const ALL: &'static [&'static str];
    fn parse(word: &str) -> Option<Self>;
    fn spelled(self) -> &'static str;
}

/// A text that no log, error or print shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Stands where a secret would.
pub const MASK: &str = "********";

/// An `http://` or `https://` address. Shown with its user part and its query values masked.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Checks `text`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let rest = rest.ok_or("no http:// or https:// before it")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() || host.starts_with(':') {
            return Err("no host in it");
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("white space in it");
        }
        Ok(HttpUrl(text.to_string()))
    }

    /// The address as written, secrets and all.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address as it may be shown.
    pub fn masked(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let authority = match authority.rsplit_once('@') {
            Some((_, host)) => format!("{MASK}@{host}"),
            None => authority.to_string(),
        };
        let tail = match tail.split_once('?') {
            Some((path, _)) => format!("{path}?{MASK}"),
            None => tail.to_string(),
        };
        format!("{scheme}://{authority}{tail}")
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}
