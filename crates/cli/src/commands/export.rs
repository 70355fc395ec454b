//! `sillok export`: a channel's facts as JSON Lines, frozen audiences included.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use sillok_wire::v1::{self, read_events_request::Start, read_item::Item};

use super::{Session, ask, missing};
use crate::{
    args::ReadArgs,
    failure::{Exit, Failure},
    format::{count, duration, short_hex, thousands},
    import::facts::{Header, fact_line},
    output::to_json,
    progress,
};

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The channel's id
    channel: String,
    /// Where to; default: standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) async fn run(args: ExportArgs, session: &Session) -> Result<(), Failure> {
    let begun = Instant::now();
    let request = v1::GetDigestsRequest { options: args.read.options(), channel_id: args.channel.clone(), revision: 0 };
    let answer = ask!(session, get_digests, request);
    let digests = answer.digests.ok_or_else(|| missing("the digests"))?;
    let header = Header { sillok_export: 1, channel_id: args.channel.clone(), digests: to_json("Digests", &digests)? };
    let header = serde_json::to_string(&header).map_err(|error| Failure::no(error.to_string()))?;

    // Written beside and renamed when it is whole, so that no file is ever half an export.
    let part = args.to.as_ref().map(|path| {
        let mut name = path.clone().into_os_string();
        name.push(".part");
        PathBuf::from(name)
    });
    let shown = part.clone().unwrap_or_else(|| PathBuf::from("standard output"));
    let failed = |error: std::io::Error| Failure::file(&shown, "write", &error);
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &part {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    });
    writeln!(out, "{header}").map_err(failed)?;

    let bar = progress::rows("exporting", digests.revision);
    // The position the digests speak for is at hand wherever the events are read.
    let at_least = answer.info.and_then(|info| info.position);
    let options = args.read.options().map(|options| v1::ReadOptions { at_least, ..options });
    let mut events = session.api.client().events(v1::ReadEventsRequest {
        options,
        start: Some(Start::FromRevision(1)),
        channel_ids: vec![args.channel.clone()],
        limit: digests.revision,
        ..Default::default()
    });
    let mut written = 0;
    while let Some(answer) = events.next().await.map_err(|status| session.api.read_failure(&status))? {
        for item in answer.items {
            let Some(Item::Event(event)) = item.item else { continue };
            if event.revision != written + 1 {
                let (got, due) = (event.revision, written + 1);
                return Err(Failure::no(format!("the node sent revision {got} where {due} was due; nothing was kept")));
            }
            written += 1;
            writeln!(out, "{}", fact_line(event)?).map_err(failed)?;
        }
        bar.set_position(written);
    }
    bar.finish_and_clear();
    if written != digests.revision {
        let (got, due) = (thousands(written), thousands(digests.revision));
        return Err(Failure::new(Exit::Unavailable, format!("the events ended at revision {got} of {due}; try again")));
    }
    out.flush().map_err(failed)?;
    if let (Some(part), Some(to)) = (&part, &args.to) {
        std::fs::rename(part, to).map_err(failed)?;
    }
    session.out.note(&format!(
        "{} of {}, revision {}, content digest {}…, in {}",
        count(written, "event", "events"),
        args.channel,
        thousands(digests.revision),
        short_hex(&digests.content_digest),
        duration(begun.elapsed())
    ));
    Ok(())
}
