//! Rows of a file, read on a thread of their own.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use csv::StringRecord;
use sillok_wire::{json, v1};
use tokio::sync::mpsc;

use super::{
    encoding::{Decoded, Scan},
    keys::Keys,
    mapping::Mapping,
    rejected::Why,
};
use crate::failure::Failure;

/// So many rows travel together.
const BATCH: usize = 256;

/// A row as it stands in the file.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    Csv(StringRecord),
    Json(String),
}

/// One row, ready to be sent or to be rejected.
#[derive(Debug)]
pub(super) struct Row {
    /// From 1.
    pub(super) line: u64,
    pub(super) raw: Raw,
    pub(super) command: Result<v1::Command, Why>,
    /// The retry key stood in the row.
    pub(super) own_key: bool,
}

/// What is imported: a file, or all of standard input.
#[derive(Debug, Clone)]
pub(super) enum Input {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

impl Input {
    /// Standard input is read at once, because it is read twice.
    pub(super) fn open(path: &Path) -> Result<Input, Failure> {
        if !crate::args::is_stdin(path) {
            return Ok(Input::File(path.to_owned()));
        }
        let mut all = Vec::new();
        std::io::stdin().read_to_end(&mut all).map_err(|error| Failure::file(path, "read", &error))?;
        Ok(Input::Memory(all.into()))
    }

    pub(super) fn reader(&self) -> Result<Box<dyn Read + Send>, Failure> {
        match self {
            Input::File(path) => {
                let file = File::open(path).map_err(|error| Failure::file(path, "read", &error))?;
                Ok(Box::new(file))
            }
            Input::Memory(all) => Ok(Box::new(Cursor::new(Arc::clone(all)))),
        }
    }

    /// That it cannot be read, before anything was sent.
    pub(super) fn failure(&self, error: &std::io::Error) -> Failure {
        let path = match self {
            Input::File(path) => path.as_path(),
            Input::Memory(_) => Path::new("-"),
        };
        Failure::file(path, "read", error)
    }

    /// As UTF-8.
    pub(super) fn text(&self, scan: Scan) -> Result<Decoded<Box<dyn Read + Send>>, Failure> {
        Ok(Decoded::new(self.reader()?, scan))
    }
}

fn invalid(message: impl Into<String>) -> Why {
    Why { reason: "INVALID_ROW".to_owned(), message: message.into() }
}

/// Rows of friends, of so many cells each.
pub(super) fn feed_csv(
    mut reader: csv::Reader<impl Read>,
    cells: usize,
    mapping: &Mapping,
    rows: &mpsc::Sender<Vec<Row>>,
) -> Result<(), Failure> {
    let mut keys = Keys::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => return Err(stopped_at(record.position().map_or(0, csv::Position::line), &error)),
        }
        let line = record.position().map_or(0, csv::Position::line);
        let mut command = match record.len() {
            here if here == cells => mapping.command(&record).map_err(invalid),
            here => {
                let text = format!("{here} cells where the header has {cells}; is a comma or a quote missing?");
                Err(invalid(text))
            }
        };
        let made = command.as_mut().is_ok_and(|command| keys.complete(command));
        batch.push(Row { line, raw: Raw::Csv(record.clone()), command, own_key: !made });
        if batch.len() == BATCH && !send(rows, &mut batch) {
            return Ok(());
        }
    }
    send(rows, &mut batch);
    Ok(())
}

/// The file was whole when it was looked through and cannot be read on now; rows before this one may be recorded.
fn stopped_at(line: u64, error: &dyn std::error::Error) -> Failure {
    Failure::no(format!("the file cannot be read on after line {line}: {error}"))
        .advise("importing it again is safe, and goes on where it stopped")
}

/// Rows of commands. `channel`: instead of the one that stands in each.
pub(super) fn feed_commands(
    text: impl Read,
    channel: Option<&str>,
    rows: &mpsc::Sender<Vec<Row>>,
) -> Result<(), Failure> {
    let mut keys = Keys::default();
    let mut batch = Vec::with_capacity(BATCH);
    for (index, line) in BufReader::new(text).lines().enumerate() {
        let line = line.map_err(|error| stopped_at(index as u64, &error))?;
        if line.trim().is_empty() {
            continue;
        }
        let mut command = parse_command(&line, channel).map_err(invalid);
        let made = command.as_mut().is_ok_and(|command| keys.complete(command));
        batch.push(Row { line: index as u64 + 1, raw: Raw::Json(line), command, own_key: !made });
        if batch.len() == BATCH && !send(rows, &mut batch) {
            return Ok(());
        }
    }
    send(rows, &mut batch);
    Ok(())
}

/// False where nobody wants more.
fn send(rows: &mpsc::Sender<Vec<Row>>, batch: &mut Vec<Row>) -> bool {
    let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
    full.is_empty() || rows.blocking_send(full).is_ok()
}

/// One command of its JSON.
fn parse_command(line: &str, channel: Option<&str>) -> Result<v1::Command, String> {
    let replaced;
    let line = match channel {
        None => line,
        Some(channel) => {
            let mut value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let request = value.as_object_mut().and_then(|kinds| kinds.values_mut().next());
            let Some(request) = request.and_then(serde_json::Value::as_object_mut) else {
                return Err("not a command such as {\"addFriend\":{…}}".to_owned());
            };
            request.remove("channel_id");
            request.insert("channelId".to_owned(), channel.into());
            replaced = value.to_string();
            &replaced
        }
    };
    let command: v1::Command = json::from_str("sillok.v1.Command", line).map_err(|error| error.to_string())?;
    match command.command {
        Some(_) => Ok(command),
        None => Err("not a command such as {\"addFriend\":{…}}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::mapping::Constants, *};

    const ADD: &str = r#"{"addFriend":{"channelId":"shop","userKey":"u-1","source":"FRIEND_SOURCE_IMPORT"}}"#;

    #[test]
    fn a_command_may_go_to_another_channel() {
        assert_eq!(parse_command(ADD, None).unwrap().channel_id(), "shop");
        assert_eq!(parse_command(ADD, Some("other")).unwrap().channel_id(), "other");
    }

    #[test]
    fn what_is_no_command_is_said() {
        for (line, says) in [
            ("{}", "not a command"),
            (r#"{"addFriend":{"userkey":"u"}}"#, "userkey"),
            (r#"{"addFriend":"#, "EOF"),
            (r#"{"addFriend":{"source":"NEWSPAPER"}}"#, "NEWSPAPER"),
        ] {
            let error = parse_command(line, None).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
        assert!(parse_command("{}", Some("other")).is_err());
    }

    #[test]
    fn a_row_of_too_many_or_too_few_cells_is_one_wrong_row() {
        let text = "user_key,region\nu-1,서울\nu-2\nu-3,부산,해운대\nu-4,대구\n";
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let constants = Constants {
            channel: "shop".to_owned(),
            source: crate::commands::friend::Source::Import,
            consents: Vec::new(),
            actor: String::new(),
        };
        let mapping = Mapping::new(&header, &[], constants).unwrap();
        let (rows, mut taken) = mpsc::channel(4);
        feed_csv(reader, 2, &mapping, &rows).unwrap();
        let batch = taken.try_recv().unwrap();
        let taken: Vec<(u64, bool)> = batch.iter().map(|row| (row.line, row.command.is_ok())).collect();
        assert_eq!(taken, [(2, true), (3, false), (4, false), (5, true)]);
        let why = batch[1].command.as_ref().unwrap_err();
        assert_eq!(
            (why.reason.as_str(), why.message.starts_with("1 cells where the header has 2")),
            ("INVALID_ROW", true)
        );
    }

    #[test]
    fn rows_know_their_line_and_their_key() {
        let text = format!("{ADD}\n\n{ADD}\nnonsense\n");
        let (rows, mut taken) = mpsc::channel(4);
        feed_commands(text.as_bytes(), None, &rows).unwrap();
        let batch = taken.try_recv().unwrap();
        assert_eq!(batch.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4]);
        let key = |row: &Row| row.command.as_ref().unwrap().context().unwrap().retry_key.clone();
        assert!(key(&batch[0]).ends_with("-1") && key(&batch[1]).ends_with("-2"));
        assert!(!batch[0].own_key && batch[2].command.is_err());
    }
}
