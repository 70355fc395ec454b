//! `SILLOK_*` in the environment, as far as it is configuration of a node.
//!
//! The prefix is not the node's alone: the command line tool, the compose file, tests and other people's scripts use it too.
//! So a variable is configuration where its name has the form of a key, `SILLOK_NODE__ID`, or is that of a key outside every
//! section, `SILLOK_SUPERVISED`. One that begins like a section and misses the second underscore, `SILLOK_NODE_ID`, is a
//! mistake and named as such. Everything else belongs to somebody else and stops no node.

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::load::{DEFAULTS, Flags};

const PREFIX: &str = "SILLOK_";

/// Keys whose variable is another than their name tells. `SILLOK_DATA_DIR` is the folder of the data set that examples and
/// checks read, and must not become the folder of every node started from the same shell.
const RENAMED: &[(&str, &str)] = &[("data_dir", "SILLOK_NODE__DATA_DIR")];

/// The layer between the file and the command line.
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// That of this process. A variable that is no UTF-8 is no configuration.
    pub(super) fn of_process() -> Environment {
        Environment::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    pub(super) fn of(variables: impl Iterator<Item = (String, String)>) -> Environment {
        Environment(variables.filter_map(|(name, value)| Some((key(&name)?, value))).collect())
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let flags = self.0.iter().fold(Flags::new(), |flags, (key, value)| {
            // No text fails to be a value: what is nothing else is a string.
            let Ok(value) = value.parse::<Value>();
            flags.with(key, value)
        });
        flags.data()
    }
}

/// The key that a variable sets, or seems to be meant to set.
fn key(variable: &str) -> Option<String> {
    let bare = variable.strip_prefix(PREFIX)?;
    if let Some((key, _)) = RENAMED.iter().find(|(_, name)| *name == variable) {
        return Some((*key).to_owned());
    }
    let name = bare.to_lowercase();
    if name.contains("__") {
        return Some(name.replace("__", "."));
    }
    let first = name.split('_').next().unwrap_or_default();
    let known = outermost();
    let is_key = known.iter().any(|(key, section)| !section && *key == name);
    let like_a_section = known.iter().any(|(key, section)| *section && *key == first);
    (is_key || like_a_section).then_some(name)
}

/// Keys outside every section, and sections (true), as the defaults have them; those without a default are not written so.
fn outermost() -> Vec<(String, bool)> {
    let defaults: toml::Table = DEFAULTS.parse().unwrap_or_default();
    defaults.into_iter().map(|(key, value)| (key, value.is_table())).collect()
}

/// The variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    match RENAMED.iter().find(|(renamed, _)| *renamed == key) {
        Some((_, variable)) => (*variable).to_owned(),
        None => format!("{PREFIX}{}", key.replace('.', "__").to_uppercase()),
    }
}
