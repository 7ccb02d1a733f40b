//! Settings of a storage -> settings of its backend.

use super::wiring::ns;
use crate::settings::{self, StorageSettings};
use crate::sinks::SinkConfig;
use crate::sinks::file::{FileConfig, FileFormat, Rotation};
use crate::sinks::influxdb::{Api, InfluxConfig, Precision};
use crate::sinks::prometheus::{PromConfig, Protocol};
use crate::sinks::target::Auth;

/// A storage's backend.
pub fn sink(storage: &StorageSettings) -> SinkConfig {
    SinkConfig {
        kind: storage.kind.word().into(),
        file: file(storage),
        influxdb: influxdb(storage),
        prometheus: prometheus(storage),
    }
}

fn file(storage: &StorageSettings) -> FileConfig {
    let (rotation, file_bytes_max) = match storage.rotation {
        settings::Rotation::Daily => (Rotation::Daily, FileConfig::default().file_bytes_max),
        settings::Rotation::Hourly => (Rotation::Hourly, FileConfig::default().file_bytes_max),
        settings::Rotation::Size(bytes) => (Rotation::Size, bytes),
    };
    FileConfig {
        path: storage.path.clone().into(),
        format: match storage.format {
            settings::FileFormat::Json => FileFormat::Json,
            settings::FileFormat::Csv => FileFormat::Csv,
            settings::FileFormat::Parquet => FileFormat::Parquet,
        },
        rotation,
        file_bytes_max,
        compression: storage.compression,
        retention_ns: storage.retention.map(ns),
        retention_bytes: Some(storage.bytes_max),
        journal_id: None,
    }
}

fn influxdb(storage: &StorageSettings) -> InfluxConfig {
    InfluxConfig {
        url: storage.url.as_ref().map_or_else(|| InfluxConfig::default().url, |url| url.as_str().into()),
        api: match storage.api {
            settings::InfluxApi::Auto => Api::Auto,
            settings::InfluxApi::V1 => Api::V1,
            settings::InfluxApi::V2 => Api::V2,
            settings::InfluxApi::V3 => Api::V3,
        },
        auth: auth(storage, Auth::Token),
        ca_file: storage.ca_file.clone().map(Into::into),
        timeout: storage.timeout,
        database: storage.database.clone(),
        org: storage.org.clone(),
        bucket: storage.bucket.clone(),
        retention_ns: storage.retention.map(ns),
        precision: match storage.precision {
            settings::Precision::Nanoseconds => Precision::Nanoseconds,
            settings::Precision::Microseconds => Precision::Microseconds,
            settings::Precision::Milliseconds => Precision::Milliseconds,
            settings::Precision::Seconds => Precision::Seconds,
        },
        gzip: storage.gzip,
        batch_lines: storage.batch_size,
        measurement: storage.measurement.clone(),
        tags: storage.tags.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

fn prometheus(storage: &StorageSettings) -> PromConfig {
    PromConfig {
        url: storage.url.as_ref().map(|url| url.as_str().into()),
        read_url: storage.read_url.as_ref().map(|url| url.as_str().into()),
        job_name: storage.job_name.clone(),
        prefix: storage.prefix.clone(),
        protocol: match storage.protocol {
            settings::RemoteWrite::Auto => Protocol::Auto,
            settings::RemoteWrite::V1 => Protocol::V1,
            settings::RemoteWrite::V2 => Protocol::V2,
        },
        batch_samples: storage.batch_size,
        timeout: storage.timeout,
        headers: storage.headers.iter().map(|(name, text)| (name.clone(), text.reveal().into())).collect(),
        auth: auth(storage, Auth::Bearer),
        ca_file: storage.ca_file.clone().map(Into::into),
        metrics_path: storage.metrics_path.clone(),
    }
}

/// User and password, or the token in the way that the backend wants it.
fn auth(storage: &StorageSettings, by_token: fn(String) -> Auth) -> Auth {
    match (&storage.token, &storage.username) {
        (Some(token), _) => by_token(token.reveal().into()),
        (None, Some(username)) => Auth::Basic {
            username: username.clone(),
            password: storage.password.as_ref().map(|password| password.reveal().into()).unwrap_or_default(),
        },
        (None, None) => Auth::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::SINKS;

    #[test]
    fn every_storage_type_of_the_settings_is_a_backend() {
        for kind in settings::storage::STORAGE_TYPES {
            assert!(SINKS.iter().any(|sink| sink.name == kind.word()), "{}", kind.word());
        }
    }
}
