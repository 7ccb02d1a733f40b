//! Prometheus' spelling of places: `$value`, `$labels.NAME`, with `humanize` or `printf "%.2f"`.

use super::Place;
use super::forms::Form;

/// What stands between double braces.
///
/// # Errors
/// What cannot be said with our places.
pub(super) fn place(inner: &str) -> Result<(Place, Form), String> {
    let (subject, form) = match inner.strip_prefix("printf") {
        Some(rest) => {
            let (format, subject) =
                rest.trim().rsplit_once(char::is_whitespace).ok_or_else(|| refused(inner))?;
            (subject, printf(format.trim()).ok_or_else(|| refused(inner))?)
        }
        None => match inner.split_once('|') {
            Some((subject, form)) => (subject.trim(), filter(form.trim()).ok_or_else(|| refused(inner))?),
            None => (inner, Form::Plain),
        },
    };
    Ok((named(subject.trim()).ok_or_else(|| refused(inner))?, form))
}

fn refused(inner: &str) -> String {
    format!(
        "expected $value or $labels.NAME, perhaps with humanize, humanizePercentage, humanizeDuration or printf \"%.2f\", \
         found {inner:?}"
    )
}

fn named(subject: &str) -> Option<Place> {
    if matches!(subject, "$value" | ".Value") {
        return Some(Place::Value);
    }
    let label = subject.strip_prefix("$labels.").or_else(|| subject.strip_prefix(".Labels."));
    let label = label.filter(|label| label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))?;
    Some(match label {
        "" => return None,
        "alertname" => Place::Rule,
        "severity" => Place::Severity,
        "__name__" => Place::Metric,
        // Which is what becomes the service of what Prometheus sends.
        "service" | "job" => Place::Service,
        _ => Place::Tag(label.to_string()),
    })
}

fn filter(text: &str) -> Option<Form> {
    match text {
        "humanize" | "humanizePercentage" | "humanizeDuration" => Form::named(text),
        _ => printf(text.strip_prefix("printf")?.trim()),
    }
}

/// `"%.2f"` -> two decimals; `"%f"` has six, `"%v"`, `"%g"` and `"%s"` the shortest form.
fn printf(quoted: &str) -> Option<Form> {
    let bare = quoted.trim_matches(['"', '`']);
    if bare.len() + 2 != quoted.len() {
        return None;
    }
    match bare {
        "%v" | "%g" | "%s" => Some(Form::Plain),
        "%f" => Some(Form::Decimals(6)),
        _ => {
            let decimals = bare.strip_prefix("%.")?.strip_suffix('f')?;
            Form::named(decimals).filter(|form| matches!(form, Form::Decimals(_)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Template;

    #[test]
    fn places_of_prometheus_become_ours() {
        for (theirs, ours) in [
            ("{{ $value }} on {{ $labels.instance }}", "{{value}} on {{tag.instance}}"),
            ("{{$labels.job}} {{ $labels.alertname }} {{ .Value }}", "{{service}} {{rule}} {{value}}"),
            ("{{ $value | humanize }}%", "{{value | humanize}}%"),
            ("{{ $value | humanizePercentage }}", "{{value | humanizePercentage}}"),
            ("{{ printf \"%.2f\" $value }}s", "{{value | 2}}s"),
            ("{{ $value | printf \"%.1f\" }}", "{{value | 1}}"),
            ("{{- $value | printf \"%f\" -}}", "{{value | 6}}"),
        ] {
            let read = Template::of_prometheus(theirs).unwrap_or_else(|error| panic!("{theirs}: {error}"));
            assert_eq!(read.to_string(), ours, "{theirs}");
            assert_eq!(Template::parse(ours), Ok(read), "{ours}");
        }
    }

    #[test]
    fn what_is_a_program_is_refused() {
        for (text, found) in [
            ("{{ with query \"up\" }}x{{ end }}", "with query \\\"up\\\""),
            ("{{ $externalLabels.site }}", "$externalLabels.site"),
            ("{{ $value | humanize1024 }}", "$value | humanize1024"),
            ("{{ $labels.a.b }}", "$labels.a.b"),
            ("{{ printf \"%d\" $value }}", "printf \\\"%d\\\" $value"),
            ("{{ value }}", "value"),
        ] {
            let error = Template::of_prometheus(text).unwrap_err().to_string();
            assert!(error.starts_with("character 1: expected $value or $labels.NAME"), "{text}: {error}");
            assert!(error.ends_with(&format!("found \"{found}\"")), "{text}: {error}");
        }
    }
}
