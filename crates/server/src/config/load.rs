//! Four layers into one configuration, or into a list of what is wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider, Source,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use super::{
    NodeConfig,
    environment::{Environment, variable},
    validate::validate,
};

/// The lowest layer. Everything but who the node is and where its data lies has a default.
pub(super) const DEFAULTS: &str = include_str!("defaults.toml");

/// What the command line sets: the highest layer.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    values: Vec<(String, Value)>,
}

impl Flags {
    /// None.
    pub fn new() -> Flags {
        Flags::default()
    }

    /// With one key, such as `listen.client`. The value is taken as it is, text for a text and a number for a number.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Flags {
        self.values.push((key.into(), value.into()));
        self
    }

    /// With one key written `key=value`, the value as in the environment: a TOML-like literal, and a text where it is none.
    ///
    /// # Errors
    /// Without `=`.
    pub fn set(self, assignment: &str) -> Result<Flags, ConfigError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(ConfigError::one(assignment, "the command line", "must be written as key=value"));
        };
        // No text fails to be a value: what is nothing else is a string.
        let Ok(value) = value.parse::<Value>();
        Ok(self.with(key.trim(), value))
    }
}

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("the command line")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut all = Dict::new();
        for (key, value) in &self.values {
            let nested = figment::util::nest(key, value.clone());
            if let Value::Dict(_, dict) = nested {
                merge(&mut all, dict);
            }
        }
        Ok(Map::from([(Profile::Default, all)]))
    }
}

fn merge(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, below)), Value::Dict(_, above)) => merge(below, above),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Such as `raft.heartbeat_ms`, as it would stand in the file; empty where no key is to blame.
    pub key: String,
    /// A file, a variable, the command line, or the defaults.
    pub origin: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.is_empty(), self.origin.is_empty()) {
            (true, true) => write!(out, "{}", self.reason),
            (true, false) => write!(out, "{}: {}", self.origin, self.reason),
            (false, true) => write!(out, "`{}`: {}", self.key, self.reason),
            (false, false) => write!(out, "`{}` ({}): {}", self.key, self.origin, self.reason),
        }
    }
}

/// The configuration cannot be used; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigError {
    pub(super) fn one(key: impl Into<String>, origin: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        ConfigError { problems: vec![ConfigProblem { key: key.into(), origin: origin.into(), reason: reason.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bad configuration")?;
        match self.problems.as_slice() {
            [one] => write!(out, ": {one}"),
            many => many.iter().try_for_each(|problem| write!(out, "\n  {problem}")),
        }
    }
}

impl NodeConfig {
    /// The configuration of this process.
    ///
    /// # Errors
    /// With every problem found: one where a value cannot be read at all, all where the values contradict each other.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<NodeConfig, ConfigError> {
        NodeConfig::from_layers(file, Environment::of_process(), flags)
    }

    /// As [`NodeConfig::load`], with another environment.
    pub(super) fn from_layers(
        file: Option<&Path>,
        environment: Environment,
        flags: &Flags,
    ) -> Result<NodeConfig, ConfigError> {
        let mut layers = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            layers = layers.merge(toml(path)?);
        }
        let layers = layers.merge(environment).merge(flags);

        let config: NodeConfig = layers.extract().map_err(|error| ConfigError {
            problems: error.into_iter().map(|error| explain(&layers, &error)).collect(),
        })?;
        let problems: Vec<ConfigProblem> = validate(&config)
            .into_iter()
            .map(|(key, reason)| ConfigProblem { origin: origin(&layers, &key), key, reason })
            .collect();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}

fn toml(path: &Path) -> Result<impl Provider, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::one("", &shown, error.to_string()))?;
    // Parsed once more by figment below; here for the line and column of a mistake.
    text.parse::<toml::Table>().map_err(|error| ConfigError::one("", &shown, error.to_string()))?;
    Ok(File { path: path.to_owned(), text })
}

/// A TOML file that was read already, and says so in errors.
struct File {
    path: PathBuf,
    text: String,
}

impl Provider for File {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", Source::File(self.path.clone()))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Toml::string(&self.text).data()
    }
}

fn explain(layers: &Figment, error: &figment::Error) -> ConfigProblem {
    let mut key = error.path.join(".");
    let reason = match &error.kind {
        Kind::MissingField(field) => {
            if !key.ends_with(field.as_ref()) {
                key = join(&key, field);
            }
            return ConfigProblem {
                reason: format!("is missing: set it in the file, as {}, or on the command line", variable(&key)),
                key,
                origin: String::new(),
            };
        }
        Kind::UnknownField(field, known) => {
            if !key.ends_with(field.as_str()) {
                key = join(&key, field);
            }
            let from_environment = error.metadata.as_ref().is_some_and(|from| from.name == "the environment");
            let hint = if from_environment && !key.contains('.') {
                "; in the environment nesting is written with two underscores"
            } else {
                ""
            };
            format!("there is no such key; there are {}{hint}", known.join(", "))
        }
        // Raised by the type of the value itself, which does not say what the value was.
        Kind::Message(message) => match layers.find_value(&key) {
            Ok(Value::String(_, value)) if key.starts_with("listen.") => {
                format!("{message}: {value:?}; give an IP address and a port, such as 127.0.0.1:7401")
            }
            Ok(Value::String(_, value)) => format!("{message}: {value:?}"),
            _ => message.clone(),
        },
        kind => kind.to_string(),
    };
    let origin = match &error.metadata {
        Some(metadata) => name(metadata, &key),
        None => origin(layers, &key),
    };
    ConfigProblem { key, origin, reason }
}

/// Where the value under a key came from.
fn origin(layers: &Figment, key: &str) -> String {
    // Lists have no metadata by index: the nearest enclosing key has.
    let mut key = key;
    loop {
        let plain = key.split('[').next().unwrap_or(key);
        if let Some(metadata) = layers.find_metadata(plain) {
            return name(metadata, plain);
        }
        match key.rsplit_once('.') {
            Some((above, _)) => key = above,
            None => return String::new(),
        }
    }
}

fn name(metadata: &Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ if metadata.name == "the environment" => variable(key),
        _ if metadata.name.contains("TOML") => "the default".to_owned(),
        _ => metadata.name.to_string(),
    }
}

fn join(above: &str, field: &str) -> String {
    if above.is_empty() { field.to_owned() } else { format!("{above}.{field}") }
}
