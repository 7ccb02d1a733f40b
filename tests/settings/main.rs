//! The configuration from outside: every key, every variable, every kind of mistake.
//!
//! # Layout
//! - `mistakes`: file and environment -> exact error texts
//! - `variables`: every key by its variable, the documented variables, files that hold secrets
//! - `layers`: what stands above what, defaults that follow other keys, the print reads back
//! - `storages`: one storage or several, and the journal
//! - `receivers`: receivers of alerts, silences and maintenance windows
//! - `document`: the blocks of the contract document
//! - `rules`: alert rules, in the configuration and in files of their own
//! - `shipped`: `config/`
//! - `program`: the flags of the program

mod document;
mod layers;
mod mistakes;
mod program;
mod receivers;
mod rules;
mod shipped;
mod storages;
mod variables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use plantd_metric::settings::{self, Flags, Origins, Settings};

/// Names and values of environment variables.
type Env<'a> = &'a [(&'a str, &'a str)];

/// Loads `yaml` as the file `metric.yaml`, with `env` over it. Errors are as displayed, the folder left out.
fn load_flagged(yaml: &str, env: Env, flags: Flags) -> Result<(Settings, Origins), String> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("metric.yaml");
    std::fs::write(&path, yaml).expect("a file for the test");
    let folder_name = format!("{}/", folder.path().display());
    settings::load_traced(&Flags { config: Some(path), ..flags }, owned(env))
        .map_err(|errors| errors.to_string().replace(&folder_name, ""))
}

fn load(yaml: &str, env: Env) -> Result<Settings, String> {
    load_flagged(yaml, env, Flags::default()).map(|(settings, _)| settings)
}

/// Loads what is right.
fn loaded(yaml: &str, env: Env) -> Settings {
    load(yaml, env).unwrap_or_else(|told| panic!("{told}\n{yaml}"))
}

fn owned(env: Env) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
