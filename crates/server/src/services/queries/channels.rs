//! Channels: what each is and how much it holds.

use sillok_domain::{ChannelStatus, Load as _};
use sillok_views::ChannelTable;
use sillok_wire::{timestamp, v1};
use tonic::Status;

use super::{Queries, ask};
use crate::grpc::page::{self, Scope};

impl Queries {
    pub(super) async fn get_channel(&self, request: v1::GetChannelRequest) -> Result<v1::GetChannelResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, channel) =
            self.channel(info, &request.channel_id, |table| Ok(channel(&request.channel_id, table)))?;
        Ok(v1::GetChannelResponse { info: Some(info), channel: Some(channel) })
    }

    pub(super) async fn list_channels(
        &self,
        request: v1::ListChannelsRequest,
    ) -> Result<v1::ListChannelsResponse, Status> {
        let size = page::size(request.page_size)?;
        let scope = Scope::of("ListChannels");
        let after = scope.last_text(&request.page_token)?;
        let info = self.ready(request.options.as_ref()).await?;
        let mut channels: Vec<v1::Channel> = Vec::new();
        let applied = self.node.views().read_channels(after.as_deref(), size + 1, |id, table| {
            channels.push(channel(id, table));
        });
        let more = channels.len() > size;
        channels.truncate(size);
        let next = channels.last().filter(|_| more).map(|last| scope.token(last.channel_id.as_bytes()));
        Ok(v1::ListChannelsResponse {
            info: Some(self.speaks_for(&info, applied)),
            channels,
            next_page_token: next.unwrap_or_default(),
        })
    }
}

/// The applied revision.
pub(super) fn revision(table: &ChannelTable) -> u64 {
    table.summary().map_or(0, |summary| summary.revision)
}

fn channel(id: &str, table: &ChannelTable) -> v1::Channel {
    let counts = table.counts();
    let mut channel = v1::Channel {
        channel_id: id.to_owned(),
        friend_count: counts.friends,
        blocked_count: counts.blocked,
        removed_count: counts.removed,
        message_count: table.message_count(),
        send_cost_won: table.send_cost_won(),
        coupon_count: counts.coupons,
        ticket_count: counts.tickets,
        refused_count: table.refused_count(),
        ..v1::Channel::default()
    };
    if let Some(summary) = table.summary() {
        channel.name = summary.name.to_string();
        channel.revision = summary.revision;
        channel.opened_at = Some(timestamp(summary.opened_at));
        channel.status = match summary.status {
            ChannelStatus::Open => v1::ChannelStatus::Open,
            ChannelStatus::Suspended => v1::ChannelStatus::Suspended,
            ChannelStatus::Closed => v1::ChannelStatus::Closed,
        }
        .into();
    }
    channel
}
