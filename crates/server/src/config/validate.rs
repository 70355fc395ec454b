//! What single values cannot say: bounds, and keys that contradict each other.

use std::collections::HashSet;

use super::{InitialSection, NodeConfig};

/// A key and what is wrong with it.
pub(super) type Problem = (String, String);

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Everything that is wrong; empty: the configuration can be used.
pub(super) fn validate(config: &NodeConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    identity(config, &mut problems);
    addresses(config, &mut problems);
    initial(config, &mut problems);
    raft(config, &mut problems);
    limits(config, &mut problems);
    problems
}

fn say(problems: &mut Vec<Problem>, key: impl Into<String>, reason: impl Into<String>) {
    problems.push((key.into(), reason.into()));
}

fn identity(config: &NodeConfig, problems: &mut Vec<Problem>) {
    if config.node.id == 0 {
        say(problems, "node.id", "must be 1 or more");
    }
    if let Some(reason) = bad_site(&config.node.site) {
        say(problems, "node.site", reason);
    }
    if config.data_dir.as_os_str().is_empty() {
        say(problems, "data_dir", "must name a directory");
    }
}

fn bad_site(site: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if site.is_empty() {
        Some("must not be empty: name the data centre this node stands in")
    } else if site.len() > 64 || !site.bytes().all(plain) {
        Some("must be 1 to 64 of a-z, 0-9 and -")
    } else {
        None
    }
}

fn addresses(config: &NodeConfig, problems: &mut Vec<Problem>) {
    let listen = [
        ("listen.client", config.listen.client),
        ("listen.peer", config.listen.peer),
        ("listen.http", config.listen.http),
    ];
    for (at, (key, address)) in listen.iter().enumerate() {
        for (other, earlier) in &listen[..at] {
            let overlap =
                earlier.ip() == address.ip() || earlier.ip().is_unspecified() || address.ip().is_unspecified();
            if address.port() != 0 && earlier.port() == address.port() && overlap {
                say(problems, *key, format!("port {} is already that of `{other}`; give each its own", address.port()));
            }
        }
    }
    let advertised = [
        ("advertise.client", &config.advertise.client, "listen.client", config.listen.client),
        ("advertise.peer", &config.advertise.peer, "listen.peer", config.listen.peer),
    ];
    for (key, advertised, listen_key, listen) in advertised {
        match advertised {
            Some(address) => {
                if let Some(reason) = bad_address(address) {
                    say(problems, key, reason);
                }
            }
            None if listen.ip().is_unspecified() => {
                say(
                    problems,
                    key,
                    format!("is needed, because `{listen_key}` is {listen}, under which nobody can reach this node"),
                );
            }
            None => {}
        }
    }
}

fn bad_address(address: &str) -> Option<&'static str> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Some("must be host:port");
    };
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || host.contains(char::is_whitespace) || host.contains('/') || bare_v6 {
        return Some("must be host:port; an IPv6 host stands in brackets, and there is no scheme");
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Some("must be host:port with a port from 1 to 65535"),
        Ok(_) => None,
    }
}

fn initial(config: &NodeConfig, problems: &mut Vec<Problem>) {
    let nodes = &config.cluster.initial;
    let (mut ids, mut addresses) = (HashSet::new(), HashSet::new());
    for (at, InitialSection { id, site, peer, client }) in nodes.iter().enumerate() {
        let key = |field: &str| format!("cluster.initial[{at}].{field}");
        if *id == 0 {
            say(problems, key("id"), "must be 1 or more");
        } else if !ids.insert(*id) {
            say(problems, key("id"), format!("node {id} stands twice in the list"));
        }
        if let Some(reason) = bad_site(site) {
            say(problems, key("site"), reason);
        }
        for (field, address) in [("peer", peer), ("client", client)] {
            if let Some(reason) = bad_address(address) {
                say(problems, key(field), reason);
            } else if !addresses.insert(address.as_str()) {
                say(problems, key(field), format!("{address} stands twice in the list"));
            }
        }
    }
    if nodes.is_empty() {
        return;
    }
    match nodes.iter().find(|node| node.id == config.node.id) {
        None => {
            say(problems, "cluster.initial", format!("node {} (`node.id`) is not in the list", config.node.id));
        }
        Some(own) if own.site != config.node.site => {
            let reason = format!(
                "says that node {} is at {}, but `node.site` is {}",
                config.node.id, own.site, config.node.site
            );
            say(problems, "cluster.initial", reason);
        }
        Some(own) => {
            let said = [
                ("peer", &own.peer, config.advertise.peer.as_ref()),
                ("client", &own.client, config.advertise.client.as_ref()),
            ];
            for (field, listed, advertised) in said {
                if let Some(advertised) = advertised.filter(|advertised| *advertised != listed) {
                    let reason = format!(
                        "says that the {field} address of node {} is {listed}, but `advertise.{field}` is {advertised}",
                        own.id
                    );
                    say(problems, "cluster.initial", reason);
                }
            }
        }
    }
}

fn raft(config: &NodeConfig, problems: &mut Vec<Problem>) {
    let raft = &config.raft;
    if !(5..=10_000).contains(&raft.heartbeat_ms) {
        say(problems, "raft.heartbeat_ms", "must be 5 to 10,000");
    }
    if raft.election_min_ms < raft.heartbeat_ms.saturating_mul(2) {
        let reason = format!(
            "must be at least twice `raft.heartbeat_ms` ({} ms), or one late heartbeat deposes a healthy leader",
            raft.heartbeat_ms
        );
        say(problems, "raft.election_min_ms", reason);
    }
    if raft.election_max_ms <= raft.election_min_ms {
        let reason = format!(
            "must be more than `raft.election_min_ms` ({} ms), or two nodes ask for votes at the same moment for ever",
            raft.election_min_ms
        );
        say(problems, "raft.election_max_ms", reason);
    }
    if !(100..=3_600_000).contains(&raft.max_clock_offset_ms) {
        say(problems, "raft.max_clock_offset_ms", "must be 100 to 3,600,000");
    }
    if raft.election_max_ms > 60_000 {
        say(problems, "raft.election_max_ms", "must be at most 60,000");
    }
}

fn limits(config: &NodeConfig, problems: &mut Vec<Problem>) {
    let limits = &config.limits;
    if !(64 * KIB..=64 * MIB).contains(&limits.message_bytes) {
        say(problems, "limits.message_bytes", "must be 65,536 (64 KiB) to 67,108,864 (64 MiB)");
    }
    if limits.submit_in_flight_bytes < limits.message_bytes {
        let reason =
            format!("must be at least `limits.message_bytes` ({}), or one frame fills it", limits.message_bytes);
        say(problems, "limits.submit_in_flight_bytes", reason);
    }
    if limits.admission_bytes < limits.message_bytes {
        let reason = format!("must be at least `limits.message_bytes` ({})", limits.message_bytes);
        say(problems, "limits.admission_bytes", reason);
    }
    if limits.concurrent_streams == 0 {
        say(problems, "limits.concurrent_streams", "must be 1 or more");
    }
    let window = 65_535..=(1 << 30);
    if !window.contains(&limits.stream_window_bytes) {
        say(problems, "limits.stream_window_bytes", "must be 65,535 to 1,073,741,824 (1 GiB)");
    }
    if !window.contains(&limits.connection_window_bytes) || limits.connection_window_bytes < limits.stream_window_bytes
    {
        let reason = "must be 65,535 to 1,073,741,824 (1 GiB), and at least `limits.stream_window_bytes`";
        say(problems, "limits.connection_window_bytes", reason);
    }
    if limits.request_timeout_ms <= 60_000 {
        let reason = "must be more than 60,000, because a command may ask to wait 60 s for all sites";
        say(problems, "limits.request_timeout_ms", reason);
    }
    let durations = [
        ("limits.slow_reader_ms", limits.slow_reader_ms),
        ("limits.keepalive_interval_ms", limits.keepalive_interval_ms),
        ("limits.keepalive_timeout_ms", limits.keepalive_timeout_ms),
    ];
    for (key, millis) in durations {
        if !(100..=3_600_000).contains(&millis) {
            say(problems, key, "must be 100 to 3,600,000");
        }
    }
    if limits.drain_ms > 600_000 {
        say(problems, "limits.drain_ms", "must be at most 600,000");
    }
    if !(MIB as u64..=1024 * MIB as u64).contains(&config.chronicle.segment_bytes) {
        say(problems, "chronicle.segment_bytes", "must be 1,048,576 (1 MiB) to 1,073,741,824 (1 GiB)");
    }
    if config.views.cache_bytes < MIB as u64 {
        say(problems, "views.cache_bytes", "must be at least 1,048,576 (1 MiB)");
    }
    if config.views.memory_bytes < MIB {
        say(problems, "views.memory_bytes", "must be at least 1,048,576 (1 MiB)");
    }
    if !(10..=600_000).contains(&config.views.spill_ms) {
        say(problems, "views.spill_ms", "must be 10 to 600,000");
    }
    if !(64 * KIB as u64..=1024 * MIB as u64).contains(&config.scrub.bytes_per_second) {
        say(problems, "scrub.bytes_per_second", "must be 65,536 (64 KiB) to 1,073,741,824 (1 GiB)");
    }
    if !(1..=31_536_000).contains(&config.scrub.every_s) {
        say(problems, "scrub.every_s", "must be 1 to 31,536,000 (a year)");
    }
    if let Err(error) = config.log.filter.parse::<tracing_subscriber::filter::EnvFilter>() {
        say(problems, "log.filter", error.to_string());
    }
    if config.runtime.worker_threads > 1024 {
        say(problems, "runtime.worker_threads", "must be at most 1,024");
    }
}
