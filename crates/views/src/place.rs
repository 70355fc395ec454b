//! The directory: where the rows are, which of them reached the disk for certain, and where doubtful ones go.
//!
//! ```text
//! views/rows/          sled
//! views/mark           the newest spill that was fsynced, and in which boot of the machine
//! views/condemned      why the rows are not to be used again
//! views.aside.<n>/     what could not be used, the newest two, for whoever wants to know why
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bincode::{Decode, Encode};

use crate::codec;

const KEPT_ASIDE: usize = 2;
const CONDEMNED: &str = "condemned";

/// Says that a spill was fsynced.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Mark {
    pub(crate) boot_id: String,
    pub(crate) spill: u64,
}

pub(crate) fn rows_dir(dir: &Path) -> PathBuf {
    dir.join("rows")
}

/// `None` if there is none or it cannot be read, which means the same.
pub(crate) fn read_mark(dir: &Path) -> Option<Mark> {
    codec::decode(&fs::read(dir.join("mark")).ok()?).ok()
}

/// Durable when it returns. Comes after the fsync of what it vouches for.
pub(crate) fn write_mark(dir: &Path, mark: &Mark) -> io::Result<()> {
    let bytes = codec::encode(mark).map_err(io::Error::other)?;
    let fresh = dir.join("mark.tmp");
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join("mark"))?;
    File::open(dir)?.sync_all()
}

/// Says that the rows are not to be used again, durably.
pub(crate) fn condemn(dir: &Path, reason: &str) -> io::Result<()> {
    let mut file = File::create(dir.join(CONDEMNED))?;
    file.write_all(reason.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Why the rows are not to be used.
pub(crate) fn condemned(dir: &Path) -> Option<String> {
    let reason = fs::read(dir.join(CONDEMNED)).ok()?;
    Some(String::from_utf8_lossy(&reason).into_owned())
}

/// Moves the directory aside and leaves an empty one in its place. At most two are kept aside.
pub(crate) fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut aside = asides(dir)?;
    while aside.len() >= KEPT_ASIDE {
        let (_, oldest) = aside.remove(0);
        fs::remove_dir_all(&oldest)?;
    }
    let number = aside.last().map_or(0, |(number, _)| *number) + 1;
    let to = sibling(dir, &format!(".aside.{number}"));
    fs::rename(dir, &to)?;
    fs::create_dir_all(dir)?;
    Ok(to)
}

/// Removes rows and mark, for rows that are written anew from memory.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    fs::create_dir_all(dir)?;
    // Without the mark first, rows that are half removed would be taken for fsynced ones after a power cut.
    absent_is_fine(fs::remove_file(dir.join("mark")))?;
    File::open(dir)?.sync_all()?;
    absent_is_fine(fs::remove_dir_all(rows_dir(dir)))?;
    absent_is_fine(fs::remove_file(dir.join(CONDEMNED)))
}

/// Whether the disk takes a file here. sled tells a full disk from damage in no reliable way, and panics at some.
pub(crate) fn probe(dir: &Path) -> io::Result<()> {
    const PROBE_BYTES: usize = 1 << 20;
    let path = dir.join("probe.tmp");
    let mut file = File::create(&path)?;
    let written = file.write_all(&vec![1; PROBE_BYTES]).and_then(|()| file.sync_all());
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// What is aside already, oldest first.
fn asides(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = format!("{}.aside.", dir.file_name().unwrap_or_default().to_string_lossy());
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(number) = name.to_string_lossy().strip_prefix(&prefix).and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    dir.with_file_name(name)
}
