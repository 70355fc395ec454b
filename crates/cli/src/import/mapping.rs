//! From the columns of a shop's own list to friends.

use csv::StringRecord;
use sillok_wire::v1;

use crate::{commands::friend::Source, failure::Failure, format::parse_time};

/// `--map KEY=COLUMN`: what a column means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapArg {
    target: Target,
    column: String,
}

/// What a column means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    UserKey,
    RetryKey,
    Source,
    /// Names of consents.
    Consents,
    /// Yes or no to one consent.
    Consent(v1::Consent),
    OccurredAt,
    Attribute(String),
}

impl Target {
    fn parse(key: &str) -> Option<Target> {
        Some(match key {
            "user_key" => Target::UserKey,
            "retry_key" => Target::RetryKey,
            "source" => Target::Source,
            "consents" => Target::Consents,
            "consent_advertising" => Target::Consent(v1::Consent::Advertising),
            "consent_night" => Target::Consent(v1::Consent::Night),
            "occurred_at" => Target::OccurredAt,
            key => {
                let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if key.is_empty() || key.len() > 32 || !key.bytes().all(legal) {
                    return None;
                }
                Target::Attribute(key.to_owned())
            }
        })
    }

    /// Columns of these names need no `--map`. Others are never taken unasked: they may be what must not be recorded.
    fn usual(column: &str) -> Option<Target> {
        let target = Target::parse(column)?;
        match &target {
            Target::Attribute(key) if !["gender", "age_band", "region", "grade"].contains(&key.as_str()) => None,
            _ => Some(target),
        }
    }
}

/// Reads `KEY=COLUMN`.
pub(crate) fn map_arg(text: &str) -> Result<MapArg, String> {
    let (key, column) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=COLUMN, such as user_key=household_id or region=지역"))?;
    let target = Target::parse(key.trim())
        .ok_or_else(|| format!("{key:?} is no key: a to z, 0 to 9 and _, at most 32 characters"))?;
    if column.trim().is_empty() {
        return Err(format!("{text:?} names no column"));
    }
    Ok(MapArg { target, column: column.trim().to_owned() })
}

/// The columns of one file.
#[derive(Debug)]
pub(super) struct Mapping {
    columns: Vec<(usize, Target)>,
    /// Columns nobody asked for.
    pub(super) ignored: Vec<String>,
    channel: String,
    source: Source,
    consents: Vec<v1::Consent>,
    actor: String,
}

/// What holds for every row.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    pub(super) channel: String,
    pub(super) source: Source,
    pub(super) consents: Vec<v1::Consent>,
    pub(super) actor: String,
}

impl Mapping {
    /// Of this header.
    pub(super) fn new(header: &StringRecord, asked: &[MapArg], constants: Constants) -> Result<Mapping, Failure> {
        let names: Vec<&str> = header.iter().map(str::trim).collect();
        let mut columns: Vec<(usize, Target)> = Vec::new();
        for MapArg { target, column } in asked {
            let Some(index) = names.iter().position(|name| name == column) else {
                return Err(Failure::usage(format!("there is no column {column:?}; there are {}", names.join(", "))));
            };
            if columns.iter().any(|(_, known)| known == target) {
                return Err(Failure::usage(format!("--map names the same key twice (the second time for {column:?})")));
            }
            columns.push((index, target.clone()));
        }
        let mut ignored = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if columns.iter().any(|(known, _)| *known == index) {
                continue;
            }
            match Target::usual(name) {
                Some(target) if columns.iter().all(|(_, known)| *known != target) => columns.push((index, target)),
                // Of a file that an earlier import wrote.
                _ if name.starts_with("rejected_") => {}
                _ => ignored.push((*name).to_owned()),
            }
        }
        if columns.iter().all(|(_, target)| *target != Target::UserKey) {
            return Err(Failure::usage(format!(
                "no column holds the user key; name it with --map user_key=COLUMN; there are {}",
                names.join(", ")
            )));
        }
        let Constants { channel, source, consents, actor } = constants;
        Ok(Mapping { columns, ignored, channel, source, consents, actor })
    }

    /// One row as a command, with its own retry key or none; or why it is none.
    pub(super) fn command(&self, row: &StringRecord) -> Result<v1::Command, String> {
        let mut context = v1::CommandContext { actor: self.actor.clone(), ..Default::default() };
        let mut friend = v1::AddFriendRequest {
            channel_id: self.channel.clone(),
            source: self.source.wire() as i32,
            consents: self.consents.iter().map(|consent| *consent as i32).collect(),
            ..Default::default()
        };
        for (index, target) in &self.columns {
            let cell = row.get(*index).unwrap_or_default().trim();
            if cell.is_empty() && *target != Target::UserKey {
                continue;
            }
            match target {
                Target::UserKey if cell.is_empty() => return Err("the user key is empty".to_owned()),
                Target::UserKey => friend.user_key = cell.to_owned(),
                Target::RetryKey => context.retry_key = cell.to_owned(),
                Target::Source => friend.source = source(cell)?.wire() as i32,
                Target::Consents => {
                    for name in cell.split([',', ';', ' ', '|']).filter(|name| !name.is_empty()) {
                        give(&mut friend.consents, consent(name)?);
                    }
                }
                Target::Consent(consent) => {
                    if yes(cell)? {
                        give(&mut friend.consents, *consent);
                    }
                }
                Target::OccurredAt => {
                    context.occurred_at = Some(parse_time(cell)?);
                    context.backfill = true;
                }
                Target::Attribute(key) => {
                    friend.attributes.push(v1::Attribute { key: key.clone(), value: cell.to_owned() });
                }
            }
        }
        friend.context = Some(context);
        Ok(friend.into())
    }
}

fn give(consents: &mut Vec<i32>, consent: v1::Consent) {
    if !consents.contains(&(consent as i32)) {
        consents.push(consent as i32);
    }
}

fn source(cell: &str) -> Result<Source, String> {
    let name = cell.to_ascii_lowercase().replace(['_', ' '], "-");
    let name = name.strip_prefix("friend-source-").unwrap_or(&name);
    <Source as clap::ValueEnum>::from_str(name, true)
        .map_err(|_| format!("{cell:?} is no source: offline-event, friend-event, ad, search, import or other"))
}

fn consent(name: &str) -> Result<v1::Consent, String> {
    match name.to_ascii_lowercase().as_str() {
        "advertising" => Ok(v1::Consent::Advertising),
        "night" => Ok(v1::Consent::Night),
        _ => Err(format!("{name:?} is no consent: advertising or night")),
    }
}

fn yes(cell: &str) -> Result<bool, String> {
    match cell.to_lowercase().as_str() {
        "y" | "yes" | "true" | "1" | "o" | "예" | "네" | "동의" => Ok(true),
        "n" | "no" | "false" | "0" | "x" | "아니오" | "아니요" | "거부" | "미동의" => Ok(false),
        _ => Err(format!("{cell:?} is neither yes (y, 1, 예, 동의) nor no (n, 0, 아니오, 미동의)")),
    }
}

#[cfg(test)]
mod tests {
    use sillok_wire::v1::command::Command;

    use super::*;

    fn constants() -> Constants {
        Constants { channel: "shop".into(), source: Source::Import, consents: vec![], actor: String::new() }
    }

    fn add(header: &[&str], maps: &[&str], row: &[&str]) -> Result<v1::AddFriendRequest, String> {
        let maps: Vec<MapArg> = maps.iter().map(|map| map_arg(map).unwrap()).collect();
        let mapping = Mapping::new(&header.to_vec().into(), &maps, constants()).map_err(|failure| failure.message)?;
        match mapping.command(&row.to_vec().into())?.command {
            Some(Command::AddFriend(add)) => Ok(add),
            other => panic!("not a friend: {other:?}"),
        }
    }

    #[test]
    fn columns_of_the_shops_own_names_are_mapped() {
        let friend = add(
            &["회원번호", "지역", "등급", "광고동의", "전화번호"],
            &["user_key=회원번호", "region=지역", "grade=등급", "consent_advertising=광고동의"],
            &["m-17", "서울", "", "예", "010-0000-0000"],
        )
        .unwrap();
        assert_eq!(friend.user_key, "m-17");
        assert_eq!(friend.attributes, [v1::Attribute { key: "region".into(), value: "서울".into() }]);
        assert_eq!(friend.consents, [v1::Consent::Advertising as i32]);
        assert_eq!(friend.source(), v1::FriendSource::Import);
    }

    #[test]
    fn usual_names_need_no_map_and_others_are_never_taken_unasked() {
        let header: StringRecord = vec!["user_key", "region", "phone"].into();
        let mapping = Mapping::new(&header, &[], constants()).unwrap();
        assert_eq!(mapping.ignored, ["phone"]);
        let friend = add(&["user_key", "region", "phone"], &[], &["u", "부산", "010"]).unwrap();
        assert_eq!(friend.attributes.len(), 1);
    }

    #[test]
    fn a_row_keeps_its_own_key_and_time() {
        let header = &["user_key", "retry_key", "occurred_at", "source", "consents"];
        let friend = add(header, &[], &["u", "row-1", "2017-03-03", "OFFLINE_EVENT", "advertising;night"]).unwrap();
        let context = friend.context.clone().unwrap();
        assert_eq!((context.retry_key.as_str(), context.backfill), ("row-1", true));
        assert_eq!(friend.source(), v1::FriendSource::OfflineEvent);
        assert_eq!(friend.consents.len(), 2);
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said() {
        let header = &["user_key", "source", "consent_night"];
        for (row, says) in [
            (["", "", ""], "the user key is empty"),
            (["u", "newspaper", ""], "is no source"),
            (["u", "", "maybe"], "neither yes"),
        ] {
            assert!(add(header, &[], &row).unwrap_err().contains(says), "{row:?}");
        }
    }

    #[test]
    fn a_map_that_fits_no_column_names_those_there_are() {
        let error = add(&["id", "지역"], &["user_key=household"], &["1", ""]).unwrap_err();
        assert_eq!(error, "there is no column \"household\"; there are id, 지역");
        let error = add(&["id", "지역"], &[], &["1", ""]).unwrap_err();
        assert!(error.contains("--map user_key=COLUMN"), "{error}");
        for wrong in ["user_key", "User=id", "region=", "=id"] {
            assert!(map_arg(wrong).is_err(), "{wrong}");
        }
    }
}
