//! Settings as YAML that reads back as the same, secrets masked, each value with where it was given.

use super::Settings;
use super::kinds::Shown;
use super::report::{Origin, Origins};
use super::rules::{RuleSettings, show_given};
use super::section::{joined, show_section};
use super::words::MASK;

/// The effective configuration. Reading the print gives `settings` again, but for masked secrets.
pub fn print(settings: &Settings, origins: &Origins) -> String {
    let mut printer = Printer { origins, lines: String::new(), with_origins: true };
    if let Shown::Map(sections) = show_section(settings) {
        for (name, section) in sections {
            printer.entry(&format!("{name}:"), 0, &name, &section);
        }
    }
    printer.lines
}

/// Rules as the file `rules:` of a rule directory has them, without what is as it would be by itself. What an import
/// could not say in the same way stands above its rule.
pub fn print_rules(rules: &[RuleSettings]) -> String {
    let origins = Origins::default();
    let mut lines = String::from(if rules.is_empty() { "rules: []\n" } else { "rules:\n" });
    for rule in rules {
        rule.source.notes.iter().for_each(|note| lines += &format!("  # {note}\n"));
        let mut printer = Printer { origins: &origins, lines: String::new(), with_origins: false };
        printer.entry("-", 1, "", &show_given(rule));
        lines += &printer.lines.replacen("  -\n    ", "  - ", 1);
    }
    lines
}

struct Printer<'a> {
    origins: &'a Origins,
    lines: String,
    /// Whether each value is followed by where it was given.
    with_origins: bool,
}

impl Printer<'_> {
    /// A line that begins with `head`, a key or the dash of a list, and the lines below it.
    fn entry(&mut self, head: &str, depth: usize, path: &str, value: &Shown) {
        let indent = "  ".repeat(depth);
        if let Some(inline) = inline(value) {
            let origin = self.origins.of(path);
            let inline = if is_from_secret_file(&origin, path) { masked(value) } else { inline };
            let origin = if self.with_origins { format!("  # {origin}") } else { String::new() };
            self.lines += &format!("{indent}{head} {inline}{origin}\n");
            return;
        }
        self.lines += &format!("{indent}{head}\n");
        match value {
            Shown::Map(entries) => {
                for (key, value) in entries {
                    self.entry(&format!("{}:", quoted(key)), depth + 1, &joined(path, key), value);
                }
            }
            Shown::List(entries) => {
                for (at, value) in entries.iter().enumerate() {
                    self.entry("-", depth + 1, &format!("{path}[{at}]"), value);
                }
            }
            Shown::Null | Shown::Word(_) | Shown::Text(_) => {}
        }
    }
}

/// Whether the value is what a file held that a variable named. `ca_file` is a key whose own variable ends so.
fn is_from_secret_file(origin: &Origin, path: &str) -> bool {
    matches!(origin, Origin::Variable(name) if name.ends_with("_FILE")) && !path.ends_with("_file")
}

/// What may be shown of a secret: of an address its host, since the path may be one, too.
fn masked(value: &Shown) -> String {
    let Shown::Text(text) = value else { return quoted(MASK) };
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            quoted(&format!("{scheme}://{authority}/{MASK}"))
        }
        None => quoted(MASK),
    }
}

/// What fits on the line of its key: scalars, lists of them, and what is empty.
fn inline(value: &Shown) -> Option<String> {
    match value {
        Shown::Null => Some("null".into()),
        Shown::Word(word) => Some(word.clone()),
        Shown::Text(text) => Some(quoted(text)),
        Shown::Map(entries) => entries.is_empty().then(|| "{}".into()),
        Shown::List(entries) => {
            let parts: Option<Vec<String>> = entries
                .iter()
                .map(|entry| match entry {
                    Shown::Map(_) | Shown::List(_) => None,
                    scalar => inline(scalar),
                })
                .collect();
            parts.map(|parts| format!("[{}]", parts.join(", ")))
        }
    }
}

/// `text` as it is where YAML reads the same text, else in double quotes.
fn quoted(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.'));
    let word =
        matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    let number = text.parse::<f64>().is_ok();
    if begins && !word && !number && text.chars().all(fits) {
        return text.to_string();
    }
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".into(),
            '\\' => "\\\\".into(),
            '\n' => "\\n".into(),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}
