//! One module for each group of commands.

pub(crate) mod bench;
pub(crate) mod channel;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod coupon;
pub(crate) mod drill;
pub(crate) mod drill_node;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod friend;
pub(crate) mod health;
pub(crate) mod message;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod top;
pub(crate) mod verify;

/// One read of `sillok.v1.Queries`, at whichever node answers first.
macro_rules! ask {
    ($session:expr, $method:ident, $request:expr) => {
        $session
            .api
            .query(|mut node| {
                let request = $request.clone();
                async move { node.$method(request).await }
            })
            .await?
    };
}
pub(crate) use ask;

use sillok_wire::v1;

use crate::{api::Api, failure::Failure, output::Out};

/// What a command needs: whom to ask and where to print.
pub(crate) struct Session {
    pub(crate) api: Api,
    pub(crate) out: Out,
}

/// An answer without the part it is about.
pub(crate) fn missing(what: &str) -> Failure {
    Failure::new(crate::failure::Exit::No, format!("the node answered without {what}"))
}

/// `KEY=VALUE`.
pub(crate) fn attribute(text: &str) -> Result<v1::Attribute, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(v1::Attribute { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("{text:?} is not KEY=VALUE, such as region=서울")),
    }
}

/// `KEY=VALUE[,VALUE…]`, or `KEY!=…` for all the others.
pub(crate) fn condition(text: &str) -> Result<v1::Condition, String> {
    let wrong = || format!("{text:?} is not a condition such as region=서울,부산 or grade!=vip");
    let (key, values) = text.split_once('=').ok_or_else(wrong)?;
    let (key, negate) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
    let any_of: Vec<String> = values.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    if key.is_empty() || any_of.is_empty() {
        return Err(wrong());
    }
    Ok(v1::Condition { key: key.to_owned(), any_of, negate })
}

/// A rule as a person reads it: `region=서울,부산 and grade!=vip`.
pub(crate) fn rule_text(rule: &v1::Rule) -> String {
    if rule.all_of.is_empty() {
        return "every friend".to_owned();
    }
    let conditions: Vec<String> = rule
        .all_of
        .iter()
        .map(|c| format!("{}{}={}", c.key, if c.negate { "!" } else { "" }, c.any_of.join(",")))
        .collect();
    conditions.join(" and ")
}

/// Who a narrowcast or an issue of tickets is for.
#[derive(clap::Args, Clone)]
#[group(required = true, multiple = false)]
pub(crate) struct AudienceArgs {
    /// Friends whose attribute has one of these values; repeat for several conditions: region=서울,부산 grade!=vip
    #[arg(long = "where", value_parser = condition, value_name = "KEY=VALUE,…", num_args = 1..)]
    pub(crate) conditions: Vec<v1::Condition>,
    /// These friends
    #[arg(long, value_delimiter = ',', value_name = "USER_KEY,…", num_args = 1..)]
    pub(crate) to: Vec<String>,
    /// The friends whose user keys stand in this file, one a line (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) to_file: Option<std::path::PathBuf>,
    /// Every friend
    #[arg(long)]
    pub(crate) everyone: bool,
}

impl AudienceArgs {
    /// As the contract has it.
    pub(crate) fn audience(&self) -> Result<v1::Audience, Failure> {
        use v1::audience::Kind;
        let mut keys = self.to.clone();
        if let Some(path) = &self.to_file {
            let text = if crate::args::is_stdin(path) {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            let text = text.map_err(|error| Failure::file(path, "read", &error))?;
            keys.extend(
                text.trim_start_matches('\u{feff}')
                    .lines()
                    .map(str::trim)
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned),
            );
            if keys.is_empty() {
                return Err(Failure::usage(format!("{} holds no user keys", path.display())));
            }
        }
        let kind = if keys.is_empty() {
            Kind::Rule(v1::Rule { all_of: self.conditions.clone() })
        } else {
            Kind::UserKeys(v1::UserKeys { user_keys: keys })
        };
        Ok(v1::Audience { kind: Some(kind) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_printed() {
        for text in ["region=서울,부산", "grade!=vip"] {
            let rule = v1::Rule { all_of: vec![condition(text).unwrap()] };
            assert_eq!(rule_text(&rule), text);
        }
        for wrong in ["region", "=서울", "region=", "!=x"] {
            assert!(condition(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rule_text(&v1::Rule::default()), "every friend");
    }

    #[test]
    fn an_attribute_may_hold_an_equals_sign() {
        let attribute = attribute("note=a=b").unwrap();
        assert_eq!((attribute.key.as_str(), attribute.value.as_str()), ("note", "a=b"));
        assert!(super::attribute("note=").is_err());
    }
}
