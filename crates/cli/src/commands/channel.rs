//! `sillok channel …`

use clap::Subcommand;
use sillok_wire::v1;

use super::{Session, ask, missing};
use crate::{
    args::{PageArgs, ReadArgs, WriteArgs},
    failure::Failure,
    format::{enum_name, thousands, time, won},
    output::{read_line, receipt},
    table::{Card, Rows},
};

#[derive(Subcommand)]
pub(crate) enum ChannelCommand {
    /// Open a channel
    Open {
        /// a to z, 0 to 9 and hyphens, at most 64
        channel: String,
        /// What people see
        #[arg(long)]
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Give a channel another name
    Rename {
        /// The channel's id
        channel: String,
        /// What people see
        #[arg(long)]
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Refuse sends and new coupons until resumed
    Suspend {
        /// The channel's id
        channel: String,
        /// At most 500 characters, recorded
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Take sends and new coupons again
    Resume {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Close a channel for ever: it accepts nothing more
    Close {
        /// The channel's id
        channel: String,
        /// At most 500 characters, recorded
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Status, friends, sends and costs
    Show {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Every channel
    List {
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        read: ReadArgs,
    },
}

pub(crate) async fn run(command: ChannelCommand, session: &Session) -> Result<(), Failure> {
    match command {
        ChannelCommand::Open { channel, name, write } => {
            let done = format!("channel {channel} ({name}) is open");
            let context = Some(write.context());
            let command = v1::OpenChannelRequest { context, channel_id: channel, name };
            write_one(session, command, &write, &done).await
        }
        ChannelCommand::Rename { channel, name, write } => {
            let done = format!("channel {channel} is now {name}");
            let context = Some(write.context());
            let command = v1::RenameChannelRequest { context, channel_id: channel, name };
            write_one(session, command, &write, &done).await
        }
        ChannelCommand::Suspend { channel, reason, write } => {
            let done = format!("channel {channel} is suspended: no sends, no new coupons");
            let context = Some(write.context());
            let command = v1::SuspendChannelRequest { context, channel_id: channel, reason };
            write_one(session, command, &write, &done).await
        }
        ChannelCommand::Resume { channel, write } => {
            let done = format!("channel {channel} takes sends again");
            let command = v1::ResumeChannelRequest { context: Some(write.context()), channel_id: channel };
            write_one(session, command, &write, &done).await
        }
        ChannelCommand::Close { channel, reason, write } => {
            let done = format!("channel {channel} is closed for ever");
            let context = Some(write.context());
            let command = v1::CloseChannelRequest { context, channel_id: channel, reason };
            write_one(session, command, &write, &done).await
        }
        ChannelCommand::Show { channel, read } => show(session, channel, &read).await,
        ChannelCommand::List { page, read } => list(session, &page, &read).await,
    }
}

/// Sends one command and prints its receipt under one sentence.
pub(crate) async fn write_one(
    session: &Session,
    command: impl Into<v1::Command>,
    write: &WriteArgs,
    done: &str,
) -> Result<(), Failure> {
    let answer = session.api.execute(command).await?;
    receipt(session.out, &answer, write.dry_run, done)
}

async fn show(session: &Session, channel: String, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::GetChannelRequest { options: read.options(), channel_id: channel };
    let answer = ask!(session, get_channel, request);
    let channel = answer.channel.clone().ok_or_else(|| missing("the channel"))?;
    session.out.answer("GetChannelResponse", &answer, || {
        let mut card = Card::new();
        card.push("channel", &channel.channel_id)
            .push("name", &channel.name)
            .push("status", enum_name(channel.status().as_str_name(), "CHANNEL_STATUS_"))
            .push("opened", time(channel.opened_at.as_ref()))
            .push("revision", thousands(channel.revision))
            .push("friends", thousands(channel.friend_count))
            .push("blocked", thousands(channel.blocked_count))
            .push("removed", thousands(channel.removed_count))
            .push("messages", thousands(channel.message_count))
            .push("cost of sends", won(channel.send_cost_won))
            .push("coupons", thousands(channel.coupon_count))
            .push("tickets", thousands(channel.ticket_count))
            .push("refused", thousands(channel.refused_count));
        format!("{}\n{}", card.render(), read_line(answer.info.as_ref()))
    })
}

async fn list(session: &Session, page: &PageArgs, read: &ReadArgs) -> Result<(), Failure> {
    let mut answer = v1::ListChannelsResponse { next_page_token: page.page_token.clone(), ..Default::default() };
    loop {
        let page_size = page.next_size(answer.channels.len());
        let request =
            v1::ListChannelsRequest { options: read.options(), page_size, page_token: answer.next_page_token.clone() };
        let part = ask!(session, list_channels, request);
        answer.channels.extend(part.channels);
        (answer.next_page_token, answer.info) = (part.next_page_token, part.info);
        if page.is_enough(answer.channels.len(), &answer.next_page_token) {
            break;
        }
    }
    session.out.answer("ListChannelsResponse", &answer, || {
        let mut rows =
            Rows::new(&["channel", "name", "status", ">friends", ">blocked", ">messages", ">cost", ">revision"]);
        for channel in &answer.channels {
            rows.push([
                channel.channel_id.clone(),
                crate::table::clip(&channel.name, 40),
                enum_name(channel.status().as_str_name(), "CHANNEL_STATUS_"),
                thousands(channel.friend_count),
                thousands(channel.blocked_count),
                thousands(channel.message_count),
                won(channel.send_cost_won),
                thousands(channel.revision),
            ]);
        }
        page.with_more(rows.render(), &answer.next_page_token, answer.info.as_ref())
    })
}
