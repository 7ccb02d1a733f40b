//! The database before the first write: made if it is not there, its retention put right.
//!
//! What the server does not let us do is left to its operator, and said once in the log: often an administrator
//! has made the database, and we may only write. If it is not there, the first write says so.

use operators::sample::{DurationNs, HOUR, MINUTE, SECOND};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::config::Api;
use super::influxql::{self, Cell, Series, identifier};
use super::server::{Server, said};
use crate::sinks::SinkError;
use crate::sinks::target::{Answer, with_query};

/// The retention policy of 1.x that is ours.
const POLICY: &str = "plantd";

const JSON: (&str, &str) = ("content-type", "application/json");

/// Makes the database. Returns the retention policy to write to, where it is not the database's default.
///
/// # Errors
/// The server is not there, or does not know us.
pub(super) fn prepare(server: &Server, api: Api) -> Result<Option<String>, SinkError> {
    match api {
        Api::V2 => bucket(server).map(|()| None),
        Api::V3 => database_of_3(server).map(|()| None),
        Api::Auto | Api::V1 => database_of_1(server),
    }
}

/// At least an hour: 1.x, 2.x and 3 keep nothing shorter.
fn retention_ns(server: &Server) -> Option<DurationNs> {
    server.config.retention_ns.map(|retention| retention.max(HOUR))
}

fn left_to_the_operator(what: &str, why: &str) {
    tracing::warn!(error = why, "InfluxDB does not let us {what}; going on without");
}

fn database_of_1(server: &Server) -> Result<Option<String>, SinkError> {
    let database = identifier(&server.config.database);
    if let Err(why) = influxql::ask(server, &format!("CREATE DATABASE {database}"))? {
        left_to_the_operator("make the database", &why);
    }
    let policies = match influxql::ask(server, &format!("SHOW RETENTION POLICIES ON {database}"))? {
        Ok(policies) => policies,
        Err(why) => {
            left_to_the_operator("see its retention policies", &why);
            return Ok(None);
        }
    };
    let ours = policies.iter().flatten().find_map(policy);
    let policy = ours.map(|_| POLICY.to_string());
    let Some(retention_ns) = retention_ns(server) else { return Ok(policy) };
    let verb = match ours {
        Some(Policy { duration_ns, is_default: true }) if duration_ns == retention_ns => return Ok(policy),
        Some(_) => "ALTER",
        None => "CREATE",
    };
    let replication = if ours.is_none() { " REPLICATION 1" } else { "" };
    let (seconds, shard) = (retention_ns.div_euclid(SECOND), shard_hours(retention_ns));
    let name = identifier(POLICY);
    let statement = format!(
        "{verb} RETENTION POLICY {name} ON {database} DURATION {seconds}s{replication} SHARD DURATION {shard}h DEFAULT"
    );
    match influxql::ask(server, &statement)? {
        // VictoriaMetrics agrees to everything and has no policies.
        Ok(_) if policies.iter().flatten().all(|series| series.columns.len() < 2) => Ok(None),
        Ok(_) => {
            tracing::info!(policy = POLICY, seconds, "retention policy set");
            Ok(Some(POLICY.into()))
        }
        Err(why) => {
            left_to_the_operator("set its retention", &why);
            Ok(policy)
        }
    }
}

/// Hours in one shard, as 1.x chooses them for a new policy. Told each time, since a policy may not become
/// shorter than its shards.
fn shard_hours(retention_ns: DurationNs) -> u32 {
    match retention_ns / (24 * HOUR) {
        0..2 => 1,
        2..180 => 24,
        _ => 168,
    }
}

#[derive(Clone, Copy)]
struct Policy {
    duration_ns: DurationNs,
    is_default: bool,
}

/// Our policy among those of a database.
fn policy(policies: &Series) -> Option<Policy> {
    let column = |name: &str| policies.columns.iter().position(|column| column == name);
    let (name, duration, default) = (column("name")?, column("duration")?, column("default")?);
    let ours = |row: &&Vec<Cell>| matches!(row.get(name), Some(Cell::Text(name)) if name == POLICY);
    let row = policies.values.iter().find(ours)?;
    let Some(Cell::Text(duration)) = row.get(duration) else { return None };
    let is_default = matches!(row.get(default), Some(Cell::Bool(true)));
    Some(Policy { duration_ns: go_duration_ns(duration)?, is_default })
}

/// A duration as Go writes it, down to seconds: `720h0m0s`.
fn go_duration_ns(text: &str) -> Option<DurationNs> {
    let mut sum: DurationNs = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit_end =
            rest[unit_at..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |len| unit_at + len);
        let unit_ns = match &rest[unit_at..unit_end] {
            "h" => HOUR,
            "m" => MINUTE,
            "s" => SECOND,
            _ => return None,
        };
        let count: DurationNs = rest[..unit_at].parse().ok()?;
        sum = sum.checked_add(count.checked_mul(unit_ns)?)?;
        rest = &rest[unit_end..];
    }
    Some(sum)
}

#[derive(Deserialize)]
struct Buckets {
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    id: String,
    name: String,
    #[serde(default)]
    retention_rules: Vec<RetentionRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetentionRule {
    every_seconds: i64,
}

#[derive(Deserialize)]
struct Organisations {
    orgs: Vec<Organisation>,
}

#[derive(Deserialize)]
struct Organisation {
    id: String,
}

/// The body of a success; else why there is none. A server that fails, or does not know us, is an error.
fn body<T: DeserializeOwned>(answer: Answer) -> Result<Result<T, String>, SinkError> {
    if answer.status == 401 || answer.status == 429 || answer.status >= 500 {
        return answer.check().map(|answer| Err(answer.told()));
    }
    if !answer.is_success() {
        return Ok(Err(said(&answer).unwrap_or_else(|| answer.told())));
    }
    Ok(serde_json::from_str(&answer.body).map_err(|error| format!("expected another answer: {error}")))
}

fn bucket(server: &Server) -> Result<(), SinkError> {
    let (name, org) = (server.config.bucket(), server.config.org.as_deref().unwrap_or_default());
    let path = with_query("/api/v2/buckets", &[("name", name), ("org", org)]);
    // A bucket that is not there is an empty list, or 404.
    let listed = body::<Buckets>(server.target.get(&path, &[])?)?;
    let found = listed.ok().and_then(|list| list.buckets.into_iter().find(|bucket| bucket.name == name));
    let seconds = retention_ns(server).map(|retention| retention.div_euclid(SECOND));
    let rules = |seconds: i64| json!([{"type": "expire", "everySeconds": seconds}]);
    let (what, done) = match (found, seconds) {
        (Some(_), None) => return Ok(()),
        (Some(bucket), Some(seconds)) => {
            if bucket.retention_rules.iter().any(|rule| rule.every_seconds == seconds) {
                return Ok(());
            }
            let path = format!("/api/v2/buckets/{}", bucket.id);
            let change = json!({ "retentionRules": rules(seconds) });
            let answer = server.target.patch(&path, &[JSON], change.to_string().into())?;
            ("set the retention of its bucket", body::<Bucket>(answer)?.map(|_| ()))
        }
        (None, seconds) => {
            let path = with_query("/api/v2/orgs", &[("org", org)]);
            let orgs = body::<Organisations>(server.target.get(&path, &[])?)?;
            let id = orgs.and_then(|list| {
                list.orgs
                    .into_iter()
                    .next()
                    .map(|org| org.id)
                    .ok_or_else(|| format!("no organisation {org:?}"))
            });
            let made = match id {
                Err(why) => Err(why),
                Ok(id) => {
                    let rules = seconds.map_or(json!([]), rules);
                    let new = json!({ "orgID": id, "name": name, "retentionRules": rules });
                    let answer = server.target.post("/api/v2/buckets", &[JSON], new.to_string().into())?;
                    body::<Bucket>(answer)?.map(|_| ())
                }
            };
            ("make the bucket", made)
        }
    };
    if let Err(why) = done {
        left_to_the_operator(what, &why);
    }
    Ok(())
}

/// 3 Core makes a database with the first write; with a retention it has to be made before, and cannot be
/// changed later.
fn database_of_3(server: &Server) -> Result<(), SinkError> {
    let Some(retention_ns) = retention_ns(server) else { return Ok(()) };
    // It knows no shorter unit.
    let hours = retention_ns.div_euclid(HOUR) + i64::from(retention_ns % HOUR > 0);
    let new = json!({ "db": server.config.bucket(), "retention_period": format!("{hours}h") });
    let answer = server.target.post("/api/v3/configure/database", &[JSON], new.to_string().into())?;
    match answer.status {
        200..=299 | 409 => Ok(()),
        401 | 429 | 500.. => answer.check().map(|_| ()),
        _ => {
            left_to_the_operator("make the database", &answer.told());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, expect) in [
            ("0s", Some(0)),
            ("720h0m0s", Some(720 * HOUR)),
            ("1h30m5s", Some(HOUR + 30 * MINUTE + 5 * SECOND)),
            ("h", None),
            ("5", None),
            ("1.5h", None),
            ("9223372036854775807h", None),
        ] {
            assert_eq!(go_duration_ns(text), expect, "{text}");
        }
    }
}
