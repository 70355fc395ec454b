//! Every mistake names its key, where it stands, and what is wrong.

use std::path::PathBuf;

use super::{environment::Environment, *};

const ENOUGH: &str = "data_dir = 'data'\n[node]\nid = 1\nsite = 'chungju'\n";

fn load(toml: &str, environment: &[(&'static str, &'static str)], flags: &[&str]) -> Result<NodeConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, toml).unwrap();
    let flags = flags.iter().fold(Flags::new(), |flags, flag| flags.set(flag).unwrap());
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    NodeConfig::from_layers(Some(&path), Environment::of(environment), &flags)
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "node.toml"))
}

#[test]
fn the_least_is_who_and_where() {
    let config = load(ENOUGH, &[], &[]).unwrap();
    assert_eq!((config.node.id, config.node.site.as_str(), config.data_dir), (1, "chungju", PathBuf::from("data")));
    assert_eq!(config.listen.client.port(), 7401);
    assert_eq!(config.raft.election_max_ms, 350);
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn later_layers_win() {
    let file = format!("{ENOUGH}[raft]\nheartbeat_ms = 60\nelection_min_ms = 300\n");
    let environment = [("SILLOK_RAFT__ELECTION_MIN_MS", "310"), ("SILLOK_RAFT__ELECTION_MAX_MS", "600")];
    let config = load(&file, &environment, &["raft.election_max_ms=700"]).unwrap();
    let raft = config.raft;
    assert_eq!((raft.heartbeat_ms, raft.election_min_ms, raft.election_max_ms), (60, 310, 700));
}

#[test]
fn a_whole_cluster_fits_in_the_environment() {
    let initial = r#"[{id=1, site="chungju", peer="chungju:7501", client="chungju:7401"},
        {id=2, site="seongju", peer="seongju:7501", client="seongju:7401"}]"#;
    let environment = [
        ("SILLOK_NODE__ID", "1"),
        ("SILLOK_NODE__SITE", "chungju"),
        ("SILLOK_NODE__DATA_DIR", "/data"),
        ("SILLOK_LISTEN__CLIENT", "0.0.0.0:7401"),
        ("SILLOK_LISTEN__PEER", "0.0.0.0:7501"),
        ("SILLOK_LISTEN__HTTP", "0.0.0.0:7601"),
        ("SILLOK_ADVERTISE__CLIENT", "chungju:7401"),
        ("SILLOK_ADVERTISE__PEER", "chungju:7501"),
        ("SILLOK_LOG__FORMAT", "json"),
        ("SILLOK_CLUSTER__INITIAL", initial),
    ];
    let config = load("", &environment, &[]).unwrap();
    assert_eq!(config.cluster.initial.len(), 2);
    assert_eq!(config.cluster.initial[1].peer, "seongju:7501");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.client_address(), "chungju:7401");
}

/// A shop's tests read their data set from `SILLOK_DATA_DIR`, and every node started from that shell kept its chronicle there;
/// somebody else exported `SILLOK_SITES` for a client, and no node started any more.
#[test]
fn what_other_tools_call_by_our_prefix_stops_no_node() {
    let others = [
        ("SILLOK_DATA_DIR", "/data/set"),
        ("SILLOK_CI_TOOLS", "target/ci"),
        ("SILLOK_SITES", "127.0.0.1:7401"),
        ("SILLOK_ENDPOINTS", "127.0.0.1:7401"),
        ("SILLOK_CONFIG", "node.toml"),
        ("OTHER_NODE__ID", "9"),
    ];
    let config = load(ENOUGH, &others, &[]).unwrap();
    assert_eq!((config.data_dir, config.node.id), (PathBuf::from("data"), 1));
    let own = [("SILLOK_NODE__DATA_DIR", "elsewhere"), ("SILLOK_SUPERVISED", "true"), ("SILLOK_DATA_DIR", "/data/set")];
    let config = load(ENOUGH, &own, &[]).unwrap();
    assert_eq!((config.data_dir, config.supervised), (PathBuf::from("elsewhere"), true));
}

#[test]
fn nothing_at_all_says_what_is_missing() {
    let error = load("[node]\nid = 1\nsite = 'a'\n", &[], &[]).unwrap_err();
    assert_eq!(
        error,
        "bad configuration: `data_dir`: is missing: set it in the file, as SILLOK_NODE__DATA_DIR, or on the command line"
    );
    let error = load("data_dir = 'x'\n", &[], &[]).unwrap_err();
    assert!(error.contains("`node.id`: is missing: set it in the file, as SILLOK_NODE__ID,"), "{error}");
}

/// (file after the least, environment, flags, what the error says)
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

const MISTAKES: &[Case] = &[
    ("[raft]\nheartbeat = 50\n", &[], &[], &["`raft.heartbeat` (node.toml)", "there is no such key", "heartbeat_ms"]),
    ("[raft]\nheartbeat_ms = 'fast'\n", &[], &[], &["`raft.heartbeat_ms` (node.toml)", "found string \"fast\""]),
    ("[raft]\nheartbeat_ms = -1\n", &[], &[], &["`raft.heartbeat_ms` (node.toml)", "-1"]),
    ("raft = 3\n", &[], &[], &["`raft` (node.toml)", "found signed int `3`"]),
    ("[raft\n", &[], &[], &["node.toml: ", "line 5"]),
    ("", &[("SILLOK_NODE_ID", "2")], &[], &["`node_id` (SILLOK_NODE_ID)", "two underscores"]),
    (
        "",
        &[("SILLOK_RAFT_HEARTBEAT_MS", "50")],
        &[],
        &["`raft_heartbeat_ms` (SILLOK_RAFT_HEARTBEAT_MS)", "two underscores"],
    ),
    ("", &[("SILLOK_NODE__IDD", "2")], &[], &["`node.idd` (SILLOK_NODE__IDD): there is no such key; there are"]),
    ("", &[("SILLOK_NODES__ID", "2")], &[], &["`nodes` (SILLOK_NODES)", "there is no such key"]),
    ("", &[("SILLOK_LOG", "debug")], &[], &["`log` (SILLOK_LOG)", "found string \"debug\""]),
    ("", &[("SILLOK_NODE__ID", "one")], &[], &["`node.id` (SILLOK_NODE__ID)", "found string \"one\""]),
    ("", &[("SILLOK_LOG__FORMAT", "xml")], &[], &["`log.format` (SILLOK_LOG__FORMAT)", "xml", "text", "json"]),
    ("", &[("SILLOK_LISTEN__CLIENT", "localhost")], &[], &["`listen.client` (SILLOK_LISTEN__CLIENT)", "localhost"]),
    ("", &[], &["node.id=0"], &["`node.id` (the command line): must be 1 or more"]),
    ("", &[], &["node.site="], &["`node.site` (the command line): must not be empty"]),
    ("", &[], &["node.site=Seoul!"], &["`node.site` (the command line): must be 1 to 64 of a-z, 0-9 and -"]),
    ("", &[], &["nodes.id=1"], &["`nodes` (the command line): there is no such key"]),
    ("[listen]\npeer = '127.0.0.1:7401'\n", &[], &[], &["`listen.peer` (node.toml): port 7401", "`listen.client`"]),
    ("[listen]\nhttp = '0.0.0.0:7501'\n", &[], &[], &["`listen.http` (node.toml): port 7501", "`listen.peer`"]),
    ("[listen]\nclient = '0.0.0.0:7401'\n", &[], &[], &["`advertise.client`", "is needed", "0.0.0.0:7401"]),
    ("[advertise]\npeer = 'http://a:1'\n", &[], &[], &["`advertise.peer` (node.toml): must be host:port"]),
    ("[advertise]\npeer = 'chungju'\n", &[], &[], &["`advertise.peer` (node.toml): must be host:port"]),
    ("[advertise]\npeer = 'chungju:0'\n", &[], &[], &["`advertise.peer` (node.toml)", "1 to 65535"]),
    ("[advertise]\npeer = '::1:80'\n", &[], &[], &["`advertise.peer` (node.toml)", "brackets"]),
    ("", &[], &["raft.election_min_ms=99"], &["`raft.election_min_ms` (the command line): must be at least twice"]),
    (
        "",
        &[("SILLOK_RAFT__ELECTION_MAX_MS", "200")],
        &[],
        &["`raft.election_max_ms` (SILLOK_RAFT__ELECTION_MAX_MS): must be more"],
    ),
    ("[raft]\nheartbeat_ms = 0\n", &[], &[], &["`raft.heartbeat_ms` (node.toml): must be 5 to 10,000"]),
    ("[limits]\nmessage_bytes = 1\n", &[], &[], &["`limits.message_bytes` (node.toml): must be 65,536"]),
    ("[limits]\nrequest_timeout_ms = 60000\n", &[], &[], &["`limits.request_timeout_ms` (node.toml)", "60 s"]),
    ("[limits]\nstream_window_bytes = 1\n", &[], &[], &["`limits.stream_window_bytes` (node.toml)"]),
    ("[chronicle]\nsegment_bytes = 1000\n", &[], &[], &["`chronicle.segment_bytes` (node.toml): must be 1,048,576"]),
    ("[scrub]\nbytes_per_second = 100\n", &[], &[], &["`scrub.bytes_per_second` (node.toml): must be 65,536 (64 KiB)"]),
    ("", &[("SILLOK_SCRUB__EVERY_S", "0")], &[], &["`scrub.every_s` (SILLOK_SCRUB__EVERY_S): must be 1 to"]),
    ("[log]\nfilter = 'loud=='\n", &[], &[], &["`log.filter` (node.toml)"]),
    (
        "[[cluster.initial]]\nid = 1\nsite = 'chungju'\npeer = 'a:1'\nclient = 'a:2'\n\
         [[cluster.initial]]\nid = 1\nsite = ''\npeer = 'a:1'\nclient = 'b'\n",
        &[],
        &[],
        &[
            "`cluster.initial[1].id` (node.toml): node 1 stands twice",
            "`cluster.initial[1].site` (node.toml): must not be empty",
            "`cluster.initial[1].peer` (node.toml): a:1 stands twice",
            "`cluster.initial[1].client` (node.toml): must be host:port",
        ],
    ),
    (
        "[[cluster.initial]]\nid = 2\nsite = 'chungju'\npeer = 'a:1'\nclient = 'a:2'\n",
        &[],
        &[],
        &["`cluster.initial` (node.toml): node 1 (`node.id`) is not in the list"],
    ),
    (
        "[[cluster.initial]]\nid = 1\nsite = 'seongju'\npeer = 'a:1'\nclient = 'a:2'\n",
        &[],
        &[],
        &["`cluster.initial` (node.toml): says that node 1 is at seongju, but `node.site` is chungju"],
    ),
    (
        "[advertise]\npeer = 'b:1'\n[[cluster.initial]]\nid = 1\nsite = 'chungju'\npeer = 'a:1'\nclient = 'a:2'\n",
        &[],
        &[],
        &["`cluster.initial` (node.toml): says that the peer address of node 1 is a:1, but `advertise.peer` is b:1"],
    ),
    ("[[cluster.initial]]\nid = 1\nsite = 'chungju'\npeer = 'a:1'\n", &[], &[], &["client", "is missing"]),
];

#[test]
fn every_mistake_names_its_key_its_origin_and_the_reason() {
    let mut silent = Vec::new();
    for (file, environment, flags, says) in MISTAKES {
        // What the case adds comes behind the least, so a bare key would fall into `[node]`: it stands before.
        let text = match file.starts_with('[') || file.is_empty() {
            true => format!("{ENOUGH}{file}"),
            false => format!("{file}{ENOUGH}"),
        };
        let error = load(&text, environment, flags).expect_err(file);
        for part in *says {
            if !error.contains(part) {
                silent.push(format!("{file:?} {environment:?} {flags:?}\n  said {error:?}\n  not {part:?}"));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn a_flag_without_a_value_and_a_file_that_is_not_there_say_so() {
    let error = Flags::new().set("node.id").unwrap_err().to_string();
    assert!(error.contains("`node.id` (the command line): must be written as key=value"), "{error}");
    let error = NodeConfig::load(Some("/nowhere/node.toml".as_ref()), &Flags::new()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/node.toml: "), "{error}");
}
