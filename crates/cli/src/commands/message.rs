//! `sillok message …`

use clap::{Args, Subcommand};
use sillok_wire::v1;

use super::{AudienceArgs, Session, ask, missing, rule_text};
use crate::{
    args::{PageArgs, ReadArgs, WriteArgs},
    failure::Failure,
    format::{count, enum_name, short_hex, thousands, time, won},
    output::{cost_lines, read_line, receipt_line, to_json},
    table::{Card, Rows, clip},
};

#[derive(Subcommand)]
pub(crate) enum MessageCommand {
    /// Send to one friend
    Push {
        /// The channel's id
        channel: String,
        /// The friend's pseudonymous key
        user_key: String,
        #[command(flatten)]
        body: BodyArgs,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Send to an audience, fixed at this moment
    Narrowcast {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        audience: AudienceArgs,
        #[command(flatten)]
        body: BodyArgs,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Send to every friend who has not blocked the channel
    Broadcast {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        body: BodyArgs,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// What was sent, newest first; to everyone, or to one friend
    History {
        /// The channel's id
        channel: String,
        /// What did this person get?
        #[arg(long, default_value = "", hide_default_value = true, value_name = "USER_KEY")]
        friend: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// One send: its text, audience and cost
    Show {
        /// The channel's id
        channel: String,
        /// The revision of the send
        message: u64,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Who was sent a message
    Recipients {
        /// The channel's id
        channel: String,
        /// The revision of the send
        message: u64,
        #[command(flatten)]
        read: ReadArgs,
    },
}

#[derive(Args, Clone)]
pub(crate) struct BodyArgs {
    /// What is sent (- reads it from standard input); at most 2,000 characters and 8 KiB
    #[arg(long)]
    text: String,
    /// Won per recipient, recorded as fact
    #[arg(long, default_value_t = 15, value_name = "WON")]
    price: i64,
    /// An advertisement: only to friends who consented, and the text must say (광고)
    #[arg(long)]
    ad: bool,
}

impl BodyArgs {
    fn body(&self) -> Result<Option<v1::MessageBody>, Failure> {
        let text = if self.text == "-" {
            std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::usage(format!("cannot read the text from standard input: {error}")))?
        } else {
            self.text.clone()
        };
        Ok(Some(v1::MessageBody { text, is_ad: self.ad, unit_price_won: self.price }))
    }
}

pub(crate) async fn run(command: MessageCommand, session: &Session) -> Result<(), Failure> {
    match command {
        MessageCommand::Push { channel, user_key, body, write } => {
            let context = Some(write.context());
            let request = v1::SendPushRequest { context, channel_id: channel, user_key, body: body.body()? };
            send(session, request, &write).await
        }
        MessageCommand::Narrowcast { channel, audience, body, write } => {
            let (context, audience) = (Some(write.context()), Some(audience.audience()?));
            let request = v1::SendNarrowcastRequest { context, channel_id: channel, audience, body: body.body()? };
            send(session, request, &write).await
        }
        MessageCommand::Broadcast { channel, body, write } => {
            let request =
                v1::SendBroadcastRequest { context: Some(write.context()), channel_id: channel, body: body.body()? };
            send(session, request, &write).await
        }
        MessageCommand::History { channel, friend, page, read } => {
            history(session, channel, friend, &page, &read).await
        }
        MessageCommand::Show { channel, message, read } => show(session, channel, message, &read).await,
        MessageCommand::Recipients { channel, message, read } => recipients(session, channel, message, &read).await,
    }
}

async fn send(session: &Session, command: impl Into<v1::Command>, write: &WriteArgs) -> Result<(), Failure> {
    let answer = session.api.execute(command).await?;
    session.out.answer("Receipt", &answer, || {
        let cost = match &answer.detail {
            Some(v1::receipt::Detail::Send(send)) => cost_lines(send),
            _ => String::new(),
        };
        match write.dry_run {
            true => format!("{cost}\nnothing was sent and nothing was recorded"),
            false => format!("{cost}\nmessage {} · {}", answer.revision, receipt_line(&answer)),
        }
    })
}

async fn history(
    session: &Session,
    channel: String,
    friend: String,
    page: &PageArgs,
    read: &ReadArgs,
) -> Result<(), Failure> {
    let mut answer = v1::ListMessagesResponse { next_page_token: page.page_token.clone(), ..Default::default() };
    loop {
        let request = v1::ListMessagesRequest {
            options: read.options(),
            channel_id: channel.clone(),
            user_key: friend.clone(),
            page_size: page.next_size(answer.messages.len()),
            page_token: answer.next_page_token.clone(),
        };
        let part = ask!(session, list_messages, request);
        answer.messages.extend(part.messages);
        (answer.next_page_token, answer.info) = (part.next_page_token, part.info);
        if page.is_enough(answer.messages.len(), &answer.next_page_token) {
            break;
        }
    }
    session.out.answer("ListMessagesResponse", &answer, || {
        let mut rows = Rows::new(&[">message", "sent", "kind", ">friends", ">price", ">cost", "text"]);
        for message in &answer.messages {
            rows.push([
                message.message_id.to_string(),
                time(message.occurred_at.as_ref().or(message.accepted_at.as_ref())),
                enum_name(message.kind().as_str_name(), "MESSAGE_KIND_"),
                thousands(message.audience_count),
                won(message.unit_price_won),
                won(message.cost_won),
                clip(&message.text, 60),
            ]);
        }
        page.with_more(rows.render(), &answer.next_page_token, answer.info.as_ref())
    })
}

async fn show(session: &Session, channel: String, message: u64, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::GetMessageRequest { options: read.options(), channel_id: channel, message_id: message };
    let answer = ask!(session, get_message, request);
    let message = answer.message.clone().ok_or_else(|| missing("the message"))?;
    session.out.answer("GetMessageResponse", &answer, || {
        let mut card = Card::new();
        card.push("message", message.message_id.to_string())
            .push("kind", enum_name(message.kind().as_str_name(), "MESSAGE_KIND_"))
            .push("accepted", time(message.accepted_at.as_ref()));
        if message.occurred_at.is_some() {
            card.push("occurred", time(message.occurred_at.as_ref()));
        }
        if let Some(rule) = &message.rule {
            card.push("rule", rule_text(rule));
        }
        if message.kind() == v1::MessageKind::Push {
            card.push("friend number", thousands(message.friend_number.into()));
        }
        card.push("audience", count(message.audience_count, "friend", "friends"))
            .push("audience digest", short_hex(&message.audience_digest))
            .push("left out", left_out(&message))
            .push("advertisement", if message.is_ad { "yes" } else { "no" })
            .push(
                "cost",
                format!(
                    "{} × {} = {}",
                    thousands(message.audience_count),
                    won(message.unit_price_won),
                    won(message.cost_won)
                ),
            );
        format!("{}\n\n{}\n\n{}", card.render(), printable(&message.text), read_line(answer.info.as_ref()))
    })
}

fn left_out(message: &v1::Message) -> String {
    format!(
        "{} without consent, {} blocked",
        thousands(message.excluded_without_consent),
        thousands(message.excluded_blocked)
    )
}

/// A text as it was sent, line breaks and all, but without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

async fn recipients(session: &Session, channel: String, message: u64, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::StreamRecipientsRequest { options: read.options(), channel_id: channel, message_id: message };
    let mut stream = ask!(session, stream_recipients, request);
    let mut rows = Rows::new(&[">no", "user key"]);
    let (mut total, mut info) = (0_u64, None);
    while let Some(part) = stream.message().await.map_err(|status| Failure::read(&status))? {
        for recipient in &part.recipients {
            total += 1;
            if session.out.is_json() {
                session.out.line(&to_json("Recipient", recipient)?.to_string())?;
            } else {
                rows.push([thousands(recipient.friend_number.into()), recipient.user_key.clone()]);
            }
        }
        info = part.info.or(info);
    }
    if session.out.is_json() {
        return Ok(());
    }
    session.out.line(&format!(
        "{}\n{}\n{}",
        rows.render(),
        count(total, "recipient", "recipients"),
        read_line(info.as_ref())
    ))
}
