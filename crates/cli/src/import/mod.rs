//! `sillok import`: friends from CSV, commands or an export from JSON Lines. Importing twice changes nothing.

mod encoding;
mod engine;
pub(crate) mod facts;
mod keys;
mod mapping;
mod rejected;
mod rows;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    time::Instant,
};

use clap::{Args, ValueEnum};
use sillok_wire::v1;
use tokio::sync::mpsc;

use self::{
    encoding::{Encoding, Scan, scan},
    engine::{Engine, Tally},
    mapping::{Constants, MapArg, Mapping, map_arg},
    rejected::Rejected,
    rows::{Input, feed_commands, feed_csv},
};
use crate::{
    commands::{
        Session, ask,
        friend::{Consent, Source},
    },
    failure::Failure,
    format::{count, duration, shell_word, thousands},
    progress,
};

const EXAMPLES: &str = "\
Examples:
  sillok import friends.csv --channel shop --map user_key=회원번호,region=지역
  sillok import commands.jsonl
  sillok import shop.jsonl --channel shop-copy

A row without a retry key of its own gets one made of its content and of how often that content stood before it, so importing \
a file twice, or again after it was interrupted, changes nothing.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// The file (- for standard input)
    file: PathBuf,
    /// What the file holds; default: by its name and its first line
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// The channel: required for CSV, instead of the one in the file for JSON Lines
    #[arg(long)]
    channel: Option<String>,
    /// Which column is what: user_key, retry_key, source, consents, consent_advertising, consent_night, occurred_at, or an
    /// attribute such as region. Columns of these names, gender, age_band, region and grade need no --map; others are ignored
    #[arg(long, value_parser = map_arg, value_delimiter = ',', value_name = "KEY=COLUMN,…")]
    map: Vec<MapArg>,
    /// How friends came to the channel, where no column says so
    #[arg(long, value_enum, default_value_t = Source::Import)]
    source: Source,
    /// Consents of every row
    #[arg(long, value_enum, value_delimiter = ',')]
    consent: Vec<Consent>,
    /// How the file is written
    #[arg(long, value_enum, default_value_t = Encoding::Auto)]
    encoding: Encoding,
    /// What stands between cells; default: comma, semicolon or tab, whichever the header has most of
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<char>,
    /// Where rows go that are not taken, with reasons
    #[arg(long, default_value = "rejected.csv", value_name = "FILE")]
    rejected: PathBuf,
    /// Who asks, for rows that do not say so
    #[arg(long, env = "SILLOK_ACTOR", default_value = "", hide_default_value = true, value_name = "NAME")]
    actor: String,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Friends, with a header
    Csv,
    /// JSON Lines of sillok.v1.Command
    Commands,
    /// JSON Lines of `sillok export`
    Export,
}

pub(crate) async fn run(args: ImportArgs, session: &Session) -> Result<(), Failure> {
    let input = Input::open(&args.file)?;
    let scan = {
        let (input, asked) = (input.clone(), args.encoding);
        let scanned = tokio::task::spawn_blocking(move || {
            let scanned = scan(input.reader()?, asked).map_err(|error| input.failure(&error))?;
            // All of it is text before anything is sent: what is found out in the middle is found out too late.
            if !scanned.is_text {
                std::io::copy(&mut input.text(scanned)?, &mut std::io::sink())
                    .map_err(|error| input.failure(&error))?;
            }
            Ok(scanned)
        });
        scanned.await.map_err(|error| Failure::no(format!("reading failed: {error}")))??
    };
    if scan.lines == 0 {
        return Err(Failure::usage(format!("{} is empty", args.file.display())));
    }
    let mut first_line = String::new();
    BufReader::new(input.text(scan)?)
        .read_line(&mut first_line)
        .map_err(|error| Failure::file(&args.file, "read", &error))?;
    let begun = Instant::now();
    match kind(&args, &first_line) {
        Kind::Csv => csv(&args, session, &input, scan, &first_line, begun).await,
        Kind::Commands => commands(&args, session, input, scan, begun).await,
        Kind::Export => export(&args, session, &input, scan, &first_line, begun).await,
    }
}

fn kind(args: &ImportArgs, first_line: &str) -> Kind {
    if let Some(kind) = args.kind {
        return kind;
    }
    match facts::header(first_line) {
        Some(_) => Kind::Export,
        None if first_line.trim_start_matches('\u{feff}').trim_start().starts_with('{') => Kind::Commands,
        None => Kind::Csv,
    }
}

async fn csv(
    args: &ImportArgs,
    session: &Session,
    input: &Input,
    scan: Scan,
    first_line: &str,
    begun: Instant,
) -> Result<(), Failure> {
    let Some(channel) = args.channel.clone() else {
        return Err(Failure::usage("--channel says into which channel the friends are imported"));
    };
    let delimiter = delimiter(args.delimiter, first_line)?;
    // A row with too many or too few cells is a wrong row, and the next one may be right.
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input.text(scan)?);
    let header = reader.headers().map_err(|error| Failure::usage(error.to_string()))?.clone();
    let constants = Constants {
        channel: channel.clone(),
        source: args.source,
        consents: args.consent.iter().map(|consent| consent.wire()).collect(),
        actor: args.actor.clone(),
    };
    let mapping = Mapping::new(&header, &args.map, constants)?;
    let start = start_in_channel(session, &channel).await?;
    let rows = thousands(scan.lines.saturating_sub(1));
    session.out.note(&format!("{}: {rows} rows of {} into {channel}", args.file.display(), scan.name()));
    if !mapping.ignored.is_empty() {
        session.out.note(&format!("ignored columns: {} (--map KEY=COLUMN takes one)", mapping.ignored.join(", ")));
    }
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    let cells = columns.len();
    let bar = progress::rows("importing", scan.lines.saturating_sub(1));
    let mut engine = Engine::new(&session.api, start, Rejected::new(&args.rejected, &args.file, columns), bar);
    let (sender, receiver) = mpsc::channel(16);
    let feeder = tokio::task::spawn_blocking(move || feed_csv(reader, cells, &mapping, &sender));
    let sent = engine.run(receiver).await;
    let read = fed(feeder).await;
    finish(session, engine, begun, sent.and(read))
}

/// A comma unless the header has more of another, and none in quotes to mislead.
fn delimiter(asked: Option<char>, header: &str) -> Result<u8, Failure> {
    if let Some(asked) = asked {
        return u8::try_from(asked).map_err(|_| Failure::usage(format!("--delimiter {asked:?} is not one byte")));
    }
    let count = |byte: u8| header.bytes().filter(|found| *found == byte).count();
    let mut best = b',';
    for other in [b';', b'\t'] {
        if count(other) > count(best) {
            best = other;
        }
    }
    Ok(best)
}

/// The chronicle's position before the import; the channel must be there, because a refusal would bind every row's key.
async fn start_in_channel(session: &Session, channel: &str) -> Result<u64, Failure> {
    let request = v1::GetChannelRequest { options: None, channel_id: channel.to_owned() };
    let answer = async { Ok::<_, Failure>(ask!(session, get_channel, request)) }.await;
    match answer {
        Ok(answer) => Ok(sequence(answer.info.as_ref())),
        Err(failure) if failure.reason == Some(v1::Reason::ChannelNotFound) => {
            let open = format!("sillok channel open {} --name …", shell_word(channel));
            Err(failure.advise(format!("open it first: {open}")))
        }
        Err(failure) => Err(failure),
    }
}

fn sequence(info: Option<&v1::ReadInfo>) -> u64 {
    info.and_then(|info| info.position.as_ref()).map_or(0, |position| position.sequence)
}

async fn start_anywhere(session: &Session) -> Result<u64, Failure> {
    let request = v1::ListChannelsRequest { options: None, page_size: 1, page_token: String::new() };
    let answer = ask!(session, list_channels, request);
    Ok(sequence(answer.info.as_ref()))
}

async fn commands(
    args: &ImportArgs,
    session: &Session,
    input: Input,
    scan: Scan,
    begun: Instant,
) -> Result<(), Failure> {
    let start = start_anywhere(session).await?;
    let bar = progress::rows("importing", scan.lines);
    let rejected = Rejected::new(&args.rejected, &args.file, vec!["command".to_owned()]);
    let mut engine = Engine::new(&session.api, start, rejected, bar);
    let (sender, receiver) = mpsc::channel(16);
    let (text, channel) = (input.text(scan)?, args.channel.clone());
    let feeder = tokio::task::spawn_blocking(move || feed_commands(text, channel.as_deref(), &sender));
    let sent = engine.run(receiver).await;
    let read = fed(feeder).await;
    finish(session, engine, begun, sent.and(read))
}

async fn fed(feeder: tokio::task::JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    feeder.await.map_err(|error| Failure::no(format!("reading the file failed: {error}")))?
}

async fn export(
    args: &ImportArgs,
    session: &Session,
    input: &Input,
    scan: Scan,
    first_line: &str,
    begun: Instant,
) -> Result<(), Failure> {
    let header = facts::header(first_line).ok_or_else(|| {
        Failure::usage(format!("{} does not begin with the header of an export", args.file.display()))
    })?;
    if header.sillok_export != 1 {
        let version = header.sillok_export;
        return Err(Failure::usage(format!("this is an export of version {version}; this version reads version 1")));
    }
    let channel = args.channel.clone().unwrap_or_else(|| header.channel_id.clone());
    let start = start_anywhere(session).await?;
    let done = facts::run(session, &header, &channel, start, input.text(scan)?).await?;
    let Tally { new, already, .. } = done.tally;
    let agree = match done.agree {
        Some(true) => "the content digests agree",
        Some(false) => "the content digests do NOT agree",
        None => "the channel has moved on too far to compare content digests",
    };
    let text = format!(
        "{} new, {} already there, in {}\n{channel}: {agree} at revision {}",
        count(new, "event", "events"),
        thousands(already),
        duration(begun.elapsed()),
        thousands(header.digests()?.revision)
    );
    session.out.answer_text(
        &text,
        serde_json::json!({
            "new": new.to_string(), "already": already.to_string(), "rejected": "0", "channelId": channel,
            "contentDigestsAgree": done.agree,
        }),
    )?;
    match done.agree {
        Some(false) => Err(Failure::no(format!("{channel} does not have the content of the export"))),
        _ => Ok(()),
    }
}

/// Says what became of the rows, also where the import stopped before the last one: what was recorded stays recorded.
fn finish(session: &Session, engine: Engine<'_>, begun: Instant, ended: Result<(), Failure>) -> Result<(), Failure> {
    let (tally, left) = engine.finish()?;
    let Tally { new, already, rejected: rejected_count, .. } = tally;
    let mut text = format!(
        "{} new, {} already there, {} rejected, in {}",
        thousands(new),
        thousands(already),
        thousands(rejected_count),
        duration(begun.elapsed())
    );
    if let Some(path) = &left.written {
        text.push_str(&format!("\nrejected rows and reasons: {}", path.display()));
    }
    if let Some(earlier) = &left.earlier {
        text.push_str(&format!("\n{earlier}"));
    }
    session.out.answer_text(
        &text,
        serde_json::json!({
            "new": new.to_string(), "already": already.to_string(), "rejected": rejected_count.to_string(),
            "rejectedFile": left.written.as_ref().map(|path| path.display().to_string()),
            "complete": ended.is_ok(),
        }),
    )?;
    ended?;
    match rejected_count {
        0 => Ok(()),
        some => Err(Failure::no(format!("{} rejected", count(some, "row was", "rows were")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_what_the_header_has_most_of() {
        for (header, byte) in [("a,b,c", b','), ("a;b;c", b';'), ("a\tb\tc", b'\t'), ("user_key", b',')] {
            assert_eq!(delimiter(None, header).unwrap(), byte, "{header}");
        }
        assert_eq!(delimiter(Some('|'), "a,b").unwrap(), b'|');
        assert!(delimiter(Some('가'), "a").is_err());
    }
}
