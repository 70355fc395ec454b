//! What can happen to the files of a node.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::DrillError;

const SECTOR_BYTES: u64 = 512;
/// What a torn batch left behind its hole.
const LEFT_BYTES: usize = 1500;

/// Changes one byte in the middle of the newest segment; says which.
pub(super) fn turn_a_bit(data_dir: &Path) -> Result<String, DrillError> {
    let segments = segments(data_dir)?;
    let Some((path, bytes)) = segments.last() else { return Err(nothing(data_dir)) };
    turn(path, bytes, end_of(bytes) / 2)
}

/// Changes one byte in the middle of the oldest segment, which nobody writes to any more; says which.
pub(super) fn turn_an_old_bit(data_dir: &Path) -> Result<String, DrillError> {
    let segments = segments(data_dir)?;
    let Some((path, bytes)) = segments.first() else { return Err(nothing(data_dir)) };
    turn(path, bytes, end_of(bytes) / 2)
}

/// Changes one byte of the node's vote, which nobody else knows; says which.
pub(super) fn turn_a_bit_of_the_vote(data_dir: &Path) -> Result<String, DrillError> {
    const VOTE_OFFSET: u64 = 64;
    let path = data_dir.join("chronicle").join("meta");
    let bytes = fs::read(&path).map_err(DrillError::file("read", &path))?;
    turn(&path, &bytes, VOTE_OFFSET)
}

fn turn(path: &Path, bytes: &[u8], at: u64) -> Result<String, DrillError> {
    let flipped = [bytes[at as usize] ^ 0x10];
    write(path, &flipped, at)?;
    Ok(format!("byte {at} of {}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Puts the second half of a batch behind the end of the chronicle, with a hole where the first half belongs; says where.
pub(super) fn tear_the_tail(data_dir: &Path) -> Result<String, DrillError> {
    let segments = segments(data_dir)?;
    let Some((path, bytes)) = segments.last() else { return Err(nothing(data_dir)) };
    let end = end_of(bytes);
    // One sector that was never written, then what was.
    let at = (end.div_ceil(SECTOR_BYTES) + 1) * SECTOR_BYTES;
    let room = bytes.len().saturating_sub(at as usize).min(LEFT_BYTES);
    let from = (end as usize / 2).min(bytes.len() - room);
    write(path, &bytes[from..from + room], at)?;
    Ok(format!("{room} bytes of a batch stand {} bytes behind its end", at - end))
}

/// Segments that hold something, in order, with their bytes.
fn segments(data_dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, DrillError> {
    let dir = data_dir.join("chronicle");
    let listed = fs::read_dir(&dir).and_then(|each| each.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = listed.map_err(DrillError::file("list", dir))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let mut segments = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(DrillError::file("read", &path))?;
        if end_of(&bytes) > 0 {
            segments.push((path, bytes));
        }
    }
    Ok(segments)
}

/// Behind the last byte that is not zero. Valid data never ends in a zero.
fn end_of(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn write(path: &Path, bytes: &[u8], at: u64) -> Result<(), DrillError> {
    let written = File::options().write(true).open(path).and_then(|file| file.write_all_at(bytes, at));
    written.map_err(DrillError::file("write", path))
}

fn nothing(data_dir: &Path) -> DrillError {
    DrillError::file("find a segment in", data_dir)(io::ErrorKind::NotFound.into())
}
