//! The command line: what every command shares.

use std::{path::Path, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sillok_wire::v1;

use crate::{
    commands::{
        bench, channel, cluster, coupon, drill, drill_node, events, export, friend, health, message, serve, top, verify,
    },
    dev,
    failure::EXIT_CODES,
    format::{parse_duration, parse_time, shell_word},
    import,
    output::read_line,
};

/// A replicated chronicle of business channels: every event written once, at several sites.
#[derive(Parser)]
#[command(name = "sillok", version, after_help = EXIT_CODES, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Taken by every command.
#[derive(Args, Clone)]
#[command(next_help_heading = "Asking and printing")]
pub(crate) struct Global {
    /// Nodes to ask. Default: the local dev cluster's sillok-data/endpoints.json, else 127.0.0.1:7401 to 7403
    #[arg(long, global = true, env = "SILLOK_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT,…")]
    pub(crate) endpoints: Vec<String>,
    /// How long to go on trying, such as 500ms, 10s, 2m [default: 10s, but no wait at all where nobody listens]
    #[arg(long, global = true, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// Tables for a person, or canonical proto3 JSON for a script
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl Global {
    /// As it was asked for, or long enough for a failover.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(10))
    }
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Three sites on this machine, in one terminal
    Dev(dev::DevArgs),
    /// Run one node
    Serve(serve::ServeArgs),
    /// Open, rename, suspend, resume, close, show and list channels
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Add, block, unblock, remove and list friends; are they all still there?
    #[command(subcommand)]
    Friend(friend::FriendCommand),
    /// Send to one friend, to an audience or to everyone; what was sent, and to whom
    #[command(subcommand)]
    Message(message::MessageCommand),
    /// Define coupons; issue, redeem, reverse, void and expire tickets
    #[command(subcommand)]
    Coupon(coupon::CouponCommand),
    /// Read, follow and find recorded events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Import friends (CSV), commands or an export (JSON Lines)
    Import(import::ImportArgs),
    /// Export a channel's facts as JSON Lines
    Export(export::ExportArgs),
    /// Who leads, how far behind is each site, and what survives if a site burns now
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Where time goes in each node: queue, decide, commit, fsync, fold, answer; until Ctrl-C, or --once
    Top(top::TopArgs),
    /// Check a data directory offline, without writing to it
    Verify(verify::VerifyArgs),
    /// Burn a site under load, and see that nothing is lost: `drill list`, `drill leader-site-fire`
    Drill(drill::DrillArgs),
    /// One node that gets things wrong on purpose; `drill` starts it
    #[command(hide = true)]
    DrillNode(drill_node::DrillNodeArgs),
    /// Measure writes, reads, failover and more; on a cluster of its own, or with --endpoints on one that runs
    Bench(bench::BenchArgs),
    /// Ask one node whether it serves; for health checks of containers
    Health(health::HealthArgs),
    /// Print what a shell needs to complete these commands, such as `source <(sillok completions bash)`
    Completions {
        /// Whose language
        shell: clap_complete::Shell,
    },
}

/// Taken by every command that is recorded.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Writing")]
pub(crate) struct WriteArgs {
    /// One key is one intent: the same key and command again gives the original answer. Default: made anew each time
    #[arg(long, value_name = "KEY")]
    pub(crate) retry_key: Option<String>,
    /// Who asks
    #[arg(long, env = "SILLOK_ACTOR", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub(crate) actor: String,
    /// When it happened: 2026-03-01T09:00:00+09:00, or a day
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) occurred_at: Option<prost_types::Timestamp>,
    /// Record the past: windows are judged at --occurred-at
    #[arg(long, requires = "occurred_at")]
    pub(crate) backfill: bool,
    /// Refuse unless the channel is at this revision
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "REVISION")]
    pub(crate) expected_revision: u64,
    /// Decide and answer, record nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Answer when it is on the disks of a quorum at two sites or more, or of all sites
    #[arg(long, value_enum, default_value_t = Wait::Quorum)]
    pub(crate) wait: Wait,
    /// How long --wait all may take; then the answer names the sites so far
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) wait_at_most: Option<Duration>,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Wait {
    #[default]
    Quorum,
    All,
}

impl WriteArgs {
    /// The context of the command, with a new retry key unless one was given.
    pub(crate) fn context(&self) -> v1::CommandContext {
        v1::CommandContext {
            retry_key: self.retry_key.clone().unwrap_or_else(sillok_client::retry_key),
            actor: self.actor.clone(),
            occurred_at: self.occurred_at,
            expected_revision: self.expected_revision,
            validate_only: self.dry_run,
            wait: match self.wait {
                Wait::Quorum => v1::Wait::Quorum,
                Wait::All => v1::Wait::AllSites,
            } as i32,
            wait_at_most: self.wait_at_most.map(|span| prost_types::Duration {
                seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
                // Below a billion.
                nanos: span.subsec_nanos() as i32,
            }),
            backfill: self.backfill,
        }
    }
}

/// Taken by every read.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Reading")]
pub(crate) struct ReadArgs {
    /// What the asked node knows; needs no leader and no majority
    #[arg(long)]
    pub(crate) stale: bool,
    /// Answer only once this sequence (of a receipt's position) is reached
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) at_least: Option<u64>,
}

impl ReadArgs {
    /// As the contract has it.
    pub(crate) fn options(&self) -> Option<v1::ReadOptions> {
        let consistency =
            if self.stale { v1::ReadConsistency::Stale } else { v1::ReadConsistency::Linearizable } as i32;
        let at_least = self.at_least.map(|sequence| v1::Position { log: sillok_wire::LOG, sequence, term: 0 });
        Some(v1::ReadOptions { consistency, at_least })
    }
}

/// How much of a list.
#[derive(Args, Clone)]
#[command(next_help_heading = "Reading")]
pub(crate) struct PageArgs {
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "all")]
    pub(crate) limit: u32,
    /// The whole list
    #[arg(long)]
    pub(crate) all: bool,
    /// Go on where an earlier list ended
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    pub(crate) page_token: String,
}

impl PageArgs {
    /// How many to ask for when so many are here.
    pub(crate) fn next_size(&self, here: usize) -> u32 {
        if self.all { 1000 } else { self.limit.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX)).clamp(1, 1000) }
    }

    /// Whether the list, of so many now, is complete or long enough.
    pub(crate) fn is_enough(&self, here: usize, next_page_token: &str) -> bool {
        next_page_token.is_empty() || (!self.all && here >= self.limit as usize)
    }

    /// The rendered list, how to see more of it, and what it speaks for.
    pub(crate) fn with_more(&self, mut text: String, next_page_token: &str, info: Option<&v1::ReadInfo>) -> String {
        if !next_page_token.is_empty() {
            text.push_str(&format!("\n… there is more: --all, or --page-token {}", shell_word(next_page_token)));
        }
        format!("{text}\n{}", read_line(info))
    }
}

/// A path that may be `-`.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_write_is_written_as_it_was_asked() {
        let cli = Cli::try_parse_from([
            "sillok",
            "friend",
            "add",
            "shop",
            "u1",
            "--retry-key",
            "k",
            "--occurred-at",
            "2017-03-03",
            "--backfill",
            "--wait",
            "all",
            "--wait-at-most",
            "2s",
            "--dry-run",
        ])
        .ok();
        let Some(Cli { command: Command::Friend(friend::FriendCommand::Add(add)), .. }) = cli else {
            panic!("friend add did not parse");
        };
        let context = add.write.context();
        assert_eq!(context.retry_key, "k");
        assert_eq!(context.wait(), v1::Wait::AllSites);
        assert_eq!(context.wait_at_most.map(|span| span.seconds), Some(2));
        assert!(context.backfill && context.validate_only);
    }

    #[test]
    fn a_backfill_says_when() {
        assert!(Cli::try_parse_from(["sillok", "friend", "add", "shop", "u1", "--backfill"]).is_err());
    }
}
