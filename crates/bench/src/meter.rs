//! What processes used up to a moment: `/proc/PID`, and the nodes' own counters. Where the system or an attached cluster does
//! not tell, there is no figure.

use std::{fs, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A node that does not tell its counters within this is left out.
const SCRAPE_WITHIN: Duration = Duration::from_secs(10);

/// Every process at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) processes: Vec<Usage>,
    /// Written to the disk that holds the nodes, by whoever wrote.
    pub(crate) device_bytes: Option<u64>,
}

/// One process at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    pub(crate) name: String,
    pub(crate) leads: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) counters: Option<Counters>,
}

/// What a node has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counters {
    pub(crate) fsyncs: f64,
    pub(crate) chronicle_bytes: f64,
    pub(crate) spills: f64,
}

impl Usage {
    /// Of a process of this machine.
    pub(crate) fn of(name: impl Into<String>, pid: u32) -> Usage {
        Usage {
            name: name.into(),
            pid: Some(pid),
            cpu: read(pid, "stat").and_then(|text| cpu(&text)),
            resident_bytes: read(pid, "status").and_then(|text| field(&text, "VmRSS:")).map(|kib| kib * 1024),
            ..Usage::default()
        }
    }
}

/// Bytes that the device under a directory was told to write since the system began. `write_bytes` of `/proc/PID/io` will not do:
/// it counts whole folios where a part became dirty, which was seen to be 2 MiB for 336 bytes.
pub(crate) fn device_bytes(dir: &Path) -> Option<u64> {
    const SECTOR: u64 = 512;
    let device = rustix::fs::stat(dir).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh is "write sectors" (Documentation/block/stat.rst).
    Some(text.split_whitespace().nth(6)?.parse::<u64>().ok()? * SECTOR)
}

fn read(pid: u32, what: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{what}")).ok()
}

/// User and system time of all threads, from `/proc/PID/stat`.
fn cpu(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; fields are counted after it, the state being the third (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The first number of a line that begins with this name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// A node's counters, from `http://ADDRESS/metrics`.
pub(crate) async fn counters(address: &str) -> Option<Counters> {
    let text = tokio::time::timeout(SCRAPE_WITHIN, scrape(address)).await.ok()?.ok()?;
    Some(parse(&text))
}

/// The text that a node tells at `http://ADDRESS/metrics`.
///
/// # Errors
/// Nobody listens there, or the connection breaks.
pub async fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // As 1.0: one answer, not in chunks, and the end of the stream is its end.
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn parse(text: &str) -> Counters {
    let sum = |name: &str| {
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    };
    Counters {
        fsyncs: sum("sillok_chronicle_fsync_seconds_count"),
        chronicle_bytes: sum("sillok_chronicle_batch_bytes_sum"),
        spills: sum("sillok_views_spill_seconds_count"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_has_spaces_and_parentheses_is_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1 1 1 1";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(Duration::from_secs_f64(300.0 / ticks)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_has_used_time() {
        let usage = Usage::of("this", std::process::id());
        assert!(usage.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{usage:?}");
        assert!(usage.cpu.is_some(), "{usage:?}");
    }

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "# TYPE sillok_chronicle_fsync_seconds histogram\nsillok_chronicle_fsync_seconds_bucket{le=\"1\"} 9\n\
                    sillok_chronicle_fsync_seconds_count 12\nsillok_chronicle_batch_bytes_sum{a=\"b c\"} 2048\n";
        assert_eq!(parse(text), Counters { fsyncs: 12.0, chronicle_bytes: 2048.0, spills: 0.0 });
    }
}
