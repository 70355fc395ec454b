//! `sillok friend …`

use clap::{Args, Subcommand, ValueEnum};
use sillok_wire::v1;

use super::{Session, ask, attribute, channel::write_one, condition, missing};
use crate::{
    args::{PageArgs, ReadArgs, WriteArgs},
    failure::Failure,
    format::{count, enum_name, thousands, time},
    output::{read_line, receipt},
    table::{Card, Rows, clip},
};

#[derive(Subcommand)]
pub(crate) enum FriendCommand {
    /// Add a friend
    Add(AddArgs),
    /// The friend blocks the channel: no sends until unblocked
    Block(OneFriend),
    /// The friend takes sends again
    Unblock(OneFriend),
    /// The friend leaves the channel; the friend number stays theirs
    Remove(OneFriend),
    /// Set or clear attributes
    Set {
        /// The channel's id
        channel: String,
        /// The friend's pseudonymous key
        user_key: String,
        /// To set, such as region=서울 grade=vip
        #[arg(value_parser = attribute, value_name = "KEY=VALUE")]
        set: Vec<v1::Attribute>,
        /// To clear
        #[arg(long, value_delimiter = ',', value_name = "KEY,…")]
        clear: Vec<String>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Record that a friend grants or withdraws a consent
    Consent {
        /// The channel's id
        channel: String,
        /// The friend's pseudonymous key
        user_key: String,
        /// What the friend did
        #[arg(value_enum)]
        action: ConsentAction,
        /// Which consent
        #[arg(value_enum)]
        consent: Consent,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// One friend
    Show {
        /// The channel's id
        channel: String,
        /// A user key, or #12 for the friend of that number
        user_key: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// The friend list, by friend number
    List {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// How many friends
    Count {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        filter: FilterArgs,
        /// Also by each value of this attribute
        #[arg(long, default_value = "", hide_default_value = true, value_name = "KEY")]
        by: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Are my friends still there? Asks every site and compares
    Check { channel: String },
}

#[derive(Args)]
pub(crate) struct AddArgs {
    /// The channel's id
    pub(crate) channel: String,
    /// 1 to 128 printable ASCII; a pseudonym, not a name or a telephone number
    pub(crate) user_key: String,
    /// How the friend came to the channel
    #[arg(long, value_enum, default_value_t = Source::Other)]
    pub(crate) source: Source,
    /// Well-known attribute
    #[arg(long)]
    pub(crate) gender: Option<String>,
    /// Well-known attribute, such as 30s
    #[arg(long)]
    pub(crate) age_band: Option<String>,
    /// Well-known attribute
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// Well-known attribute
    #[arg(long)]
    pub(crate) grade: Option<String>,
    /// Attributes of the shop's own
    #[arg(long, value_parser = attribute, value_name = "KEY=VALUE")]
    pub(crate) attribute: Vec<v1::Attribute>,
    /// Consents given with the add
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) consent: Vec<Consent>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Args)]
pub(crate) struct OneFriend {
    /// The channel's id
    pub(crate) channel: String,
    /// The friend's pseudonymous key
    pub(crate) user_key: String,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Args, Clone)]
pub(crate) struct FilterArgs {
    /// Only friends whose attribute has one of these values; repeat for several conditions
    #[arg(long = "where", value_parser = condition, value_name = "KEY=VALUE,…", num_args = 1..)]
    conditions: Vec<v1::Condition>,
    /// Only these; default: friends and those who blocked the channel
    #[arg(long, value_enum, value_delimiter = ',')]
    status: Vec<Status>,
}

impl FilterArgs {
    fn filter(&self) -> Option<v1::FriendFilter> {
        let rule = (!self.conditions.is_empty()).then(|| v1::Rule { all_of: self.conditions.clone() });
        let statuses = self.status.iter().map(|status| status.wire() as i32).collect();
        Some(v1::FriendFilter { statuses, rule })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    OfflineEvent,
    FriendEvent,
    Ad,
    Search,
    Import,
    Other,
}

impl Source {
    pub(crate) fn wire(self) -> v1::FriendSource {
        match self {
            Source::OfflineEvent => v1::FriendSource::OfflineEvent,
            Source::FriendEvent => v1::FriendSource::FriendEvent,
            Source::Ad => v1::FriendSource::Ad,
            Source::Search => v1::FriendSource::Search,
            Source::Import => v1::FriendSource::Import,
            Source::Other => v1::FriendSource::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consent {
    /// To advertisements
    Advertising,
    /// To advertisements between 21:00 and 08:00 KST
    Night,
}

impl Consent {
    pub(crate) fn wire(self) -> v1::Consent {
        match self {
            Consent::Advertising => v1::Consent::Advertising,
            Consent::Night => v1::Consent::Night,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ConsentAction {
    Grant,
    Withdraw,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Friend,
    Blocked,
    Removed,
}

impl Status {
    fn wire(self) -> v1::FriendStatus {
        match self {
            Status::Friend => v1::FriendStatus::Friend,
            Status::Blocked => v1::FriendStatus::Blocked,
            Status::Removed => v1::FriendStatus::Removed,
        }
    }
}

pub(crate) async fn run(command: FriendCommand, session: &Session) -> Result<(), Failure> {
    match command {
        FriendCommand::Add(add) => self::add(session, add).await,
        FriendCommand::Block(OneFriend { channel, user_key, write }) => {
            let done = format!("{user_key} has blocked {channel}");
            let command = v1::BlockFriendRequest { context: Some(write.context()), channel_id: channel, user_key };
            write_one(session, command, &write, &done).await
        }
        FriendCommand::Unblock(OneFriend { channel, user_key, write }) => {
            let done = format!("{user_key} takes sends of {channel} again");
            let command = v1::UnblockFriendRequest { context: Some(write.context()), channel_id: channel, user_key };
            write_one(session, command, &write, &done).await
        }
        FriendCommand::Remove(OneFriend { channel, user_key, write }) => {
            let done = format!("{user_key} is no longer a friend of {channel}");
            let command = v1::RemoveFriendRequest { context: Some(write.context()), channel_id: channel, user_key };
            write_one(session, command, &write, &done).await
        }
        FriendCommand::Set { channel, user_key, set, clear, write } => {
            if set.is_empty() && clear.is_empty() {
                return Err(Failure::usage("nothing to set or clear: give KEY=VALUE or --clear KEY"));
            }
            let done = format!("attributes of {user_key} in {channel} are set");
            let context = Some(write.context());
            let command = v1::SetAttributesRequest { context, channel_id: channel, user_key, set, clear };
            write_one(session, command, &write, &done).await
        }
        FriendCommand::Consent { channel, user_key, action, consent, write } => {
            let name = enum_name(consent.wire().as_str_name(), "CONSENT_");
            let (context, channel_id, consent) = (Some(write.context()), channel, consent.wire() as i32);
            let (command, verb) = match action {
                ConsentAction::Grant => {
                    let request = v1::GrantConsentRequest { context, channel_id, user_key: user_key.clone(), consent };
                    (v1::Command::from(request), "granted")
                }
                ConsentAction::Withdraw => {
                    let request =
                        v1::WithdrawConsentRequest { context, channel_id, user_key: user_key.clone(), consent };
                    (v1::Command::from(request), "withdrew")
                }
            };
            write_one(session, command, &write, &format!("{user_key} {verb} the consent to {name}")).await
        }
        FriendCommand::Show { channel, user_key, read } => show(session, channel, &user_key, &read).await,
        FriendCommand::List { channel, filter, page, read } => list(session, channel, &filter, &page, &read).await,
        FriendCommand::Count { channel, filter, by, read } => {
            self::count_by(session, channel, &filter, by, &read).await
        }
        FriendCommand::Check { channel } => super::check::run(session, &channel).await,
    }
}

async fn add(session: &Session, add: AddArgs) -> Result<(), Failure> {
    let well_known = [("gender", add.gender), ("age_band", add.age_band), ("region", add.region), ("grade", add.grade)];
    let mut attributes: Vec<v1::Attribute> = well_known
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| v1::Attribute { key: key.to_owned(), value }))
        .collect();
    attributes.extend(add.attribute);
    let command = v1::AddFriendRequest {
        context: Some(add.write.context()),
        channel_id: add.channel.clone(),
        user_key: add.user_key.clone(),
        source: add.source.wire() as i32,
        attributes,
        consents: add.consent.iter().map(|consent| consent.wire() as i32).collect(),
    };
    let answer = session.api.execute(command).await?;
    let number = match &answer.detail {
        Some(v1::receipt::Detail::Friend(friend)) => friend.friend_number,
        _ => 0,
    };
    let done = format!("{} is friend {} of {}", add.user_key, thousands(number.into()), add.channel);
    receipt(session.out, &answer, add.write.dry_run, &done)
}

fn attributes_text(attributes: &[v1::Attribute]) -> String {
    attributes.iter().map(|a| format!("{}={}", a.key, a.value)).collect::<Vec<_>>().join(" ")
}

fn consents_text(friend: &v1::Friend) -> String {
    let names: Vec<String> = friend.consents().map(|consent| enum_name(consent.as_str_name(), "CONSENT_")).collect();
    if names.is_empty() { "–".to_owned() } else { names.join(",") }
}

async fn show(session: &Session, channel: String, user_key: &str, read: &ReadArgs) -> Result<(), Failure> {
    use v1::get_friend_request::Who;
    let who = match user_key.strip_prefix('#').map(str::parse) {
        Some(Ok(number)) => Who::FriendNumber(number),
        _ => Who::UserKey(user_key.to_owned()),
    };
    let request = v1::GetFriendRequest { options: read.options(), channel_id: channel, who: Some(who) };
    let answer = ask!(session, get_friend, request);
    let friend = answer.friend.clone().ok_or_else(|| missing("the friend"))?;
    session.out.answer("GetFriendResponse", &answer, || {
        let mut card = Card::new();
        card.push("friend number", thousands(friend.friend_number.into()))
            .push("user key", &friend.user_key)
            .push("status", enum_name(friend.status().as_str_name(), "FRIEND_STATUS_"))
            .push("source", enum_name(friend.source().as_str_name(), "FRIEND_SOURCE_"))
            .push("attributes", attributes_text(&friend.attributes))
            .push("consents", consents_text(&friend))
            .push(
                "added",
                format!("{}, revision {}", time(friend.added_at.as_ref()), thousands(friend.added_revision)),
            );
        format!("{}\n{}", card.render(), read_line(answer.info.as_ref()))
    })
}

async fn list(
    session: &Session,
    channel: String,
    filter: &FilterArgs,
    page: &PageArgs,
    read: &ReadArgs,
) -> Result<(), Failure> {
    let mut answer = v1::ListFriendsResponse { next_page_token: page.page_token.clone(), ..Default::default() };
    loop {
        let request = v1::ListFriendsRequest {
            options: read.options(),
            channel_id: channel.clone(),
            filter: filter.filter(),
            page_size: page.next_size(answer.friends.len()),
            page_token: answer.next_page_token.clone(),
        };
        let part = ask!(session, list_friends, request);
        answer.friends.extend(part.friends);
        (answer.next_page_token, answer.info) = (part.next_page_token, part.info);
        if page.is_enough(answer.friends.len(), &answer.next_page_token) {
            break;
        }
    }
    session.out.answer("ListFriendsResponse", &answer, || {
        let mut rows = Rows::new(&[">no", "user key", "status", "source", "consents", "added", "attributes"]);
        for friend in &answer.friends {
            rows.push([
                thousands(friend.friend_number.into()),
                friend.user_key.clone(),
                enum_name(friend.status().as_str_name(), "FRIEND_STATUS_"),
                enum_name(friend.source().as_str_name(), "FRIEND_SOURCE_"),
                consents_text(friend),
                time(friend.added_at.as_ref()),
                clip(&attributes_text(&friend.attributes), 80),
            ]);
        }
        page.with_more(rows.render(), &answer.next_page_token, answer.info.as_ref())
    })
}

async fn count_by(
    session: &Session,
    channel: String,
    filter: &FilterArgs,
    by: String,
    read: &ReadArgs,
) -> Result<(), Failure> {
    let request = v1::CountFriendsRequest {
        options: read.options(),
        channel_id: channel,
        filter: filter.filter(),
        by_attribute: by.clone(),
    };
    let answer = ask!(session, count_friends, request);
    session.out.answer("CountFriendsResponse", &answer, || {
        let mut text = count(answer.count, "friend", "friends");
        if !by.is_empty() {
            let mut rows = Rows::new(&[&by, ">friends"]);
            for value in &answer.by_value {
                let name = if value.value.is_empty() { "(none)".to_owned() } else { value.value.clone() };
                rows.push([name, thousands(value.count)]);
            }
            text = format!("{}\n{text}", rows.render());
        }
        format!("{text}\n{}", read_line(answer.info.as_ref()))
    })
}
