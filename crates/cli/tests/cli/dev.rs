//! `sillok dev` as a person meets it: three processes that start, survive each other, and end with their parent.

use rustix::process::Signal;

use crate::support::{Dev, dir, eventually, is_alive, ok, run, signal};

#[test]
fn the_demo_shop_survives_a_dark_site_a_restart_and_a_second_loading() {
    let dir = dir();
    let dev = Dev::start(dir.path(), &["--demo"]);
    assert!(dev.said().contains("a broadcast to 39 friends for 585원"), "{}", dev.said());
    let check = ok(dir.path(), &["friend", "check", "bomnal"]);
    assert!(
        check
            .out
            .ends_with("Are my friends still there? Yes: 40, identical at chungju, seongju and jeonju, revision 46\n"),
        "{}",
        check.out
    );

    signal(dev.node("jeonju"), Signal::KILL);
    let check = eventually("jeonju to be dark", || {
        let check = ok(dir.path(), &["friend", "check", "bomnal"]);
        check.out.contains("2 of 3 sites answer").then_some(check)
    });
    assert!(
        check.out.contains("\n2 of 3 sites answer; both agree (jeonju is dark)\nas of position 46 ("),
        "{}",
        check.out
    );
    ok(dir.path(), &["friend", "add", "bomnal", "guest-041", "--region", "서울"]);
    let told = "jeonju stopped by itself: signal 9";
    eventually("dev to tell of it", || dev.said().contains(told).then_some(()));
    dev.stop();

    let dev = Dev::start(dir.path(), &["--demo"]);
    assert!(dev.said().contains("everything found again"), "{}", dev.said());
    assert!(dev.said().contains("(it was there already)"), "{}", dev.said());
    let check = ok(dir.path(), &["friend", "check", "bomnal", "-o", "json"]).json();
    assert_eq!((&check["agree"], &check["friendCount"]), (&true.into(), &"41".into()), "{check}");
    assert_eq!(check["revision"], "47", "loading the demo again recorded nothing: {check}");
    dev.stop();
}

#[test]
fn the_end_of_the_parent_by_kill_9_ends_the_children_and_a_second_start_finds_every_event() {
    let dir = dir();
    let dev = Dev::start(dir.path(), &[]);
    ok(dir.path(), &["channel", "open", "shop", "--name", "가게"]);
    let endpoints = std::fs::read_to_string(dir.path().join("sillok-data/endpoints.json")).unwrap();
    let nodes = dev.kill();
    assert_eq!(nodes.len(), 3);
    eventually("the children to end", || nodes.iter().all(|node| !is_alive(*node)).then_some(()));

    let dev = Dev::start(dir.path(), &[]);
    let again = std::fs::read_to_string(dir.path().join("sillok-data/endpoints.json")).unwrap();
    assert_eq!(endpoints, again, "the same ports");
    let shown = ok(dir.path(), &["channel", "show", "shop", "-o", "json"]).json();
    assert_eq!(shown["channel"]["name"], "가게");
    dev.stop();
}

#[test]
fn a_second_dev_on_the_same_directory_is_refused_and_another_directory_gets_other_ports() {
    let (here, there) = (dir(), dir());
    let dev = Dev::start(here.path(), &[]);
    let second = run(here.path(), &["dev"]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.err.contains("another `sillok dev` runs on sillok-data"), "{}", second.err);

    let other = Dev::start(there.path(), &[]);
    ok(here.path(), &["channel", "open", "here", "--name", "x"]);
    let list = ok(there.path(), &["channel", "list", "-o", "json"]).json();
    assert_eq!(list["channels"], serde_json::Value::Null, "the other cluster is another: {list}");
    other.stop();
    dev.stop();
}

#[test]
fn ports_that_somebody_took_meanwhile_move_on_and_every_event_is_found() {
    let dir = dir();
    let dev = Dev::start(dir.path(), &[]);
    ok(dir.path(), &["channel", "open", "shop", "--name", "가게"]);
    dev.stop();
    let endpoints = || -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("sillok-data/endpoints.json")).unwrap()).unwrap()
    };
    let before = endpoints();
    let taken: Vec<std::net::TcpListener> = before["sites"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|site| [&site["client"], &site["peer"]])
        // Where it is taken already, so much the better.
        .filter_map(|address| std::net::TcpListener::bind(address.as_str().unwrap()).ok())
        .collect();

    let dev = Dev::start(dir.path(), &[]);
    assert_ne!(before["sites"][0]["peer"], endpoints()["sites"][0]["peer"]);
    ok(dir.path(), &["friend", "add", "shop", "u-1"]);
    let check = ok(dir.path(), &["friend", "check", "shop", "-o", "json"]).json();
    assert_eq!((&check["agree"], &check["revision"]), (&true.into(), &"2".into()), "{check}");
    drop(taken);
    dev.stop();
}
