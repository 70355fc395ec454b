//! What a person types and a script reads, against three real processes.

use std::fs;

use rustix::process::Signal;

use crate::support::{Dev, dir, eventually, ok, run, signal};

#[test]
fn a_shop_from_opening_to_redeeming() {
    let dir = dir();
    let dev = Dev::start(dir.path(), &[]);
    let at = dir.path();
    let opened = ok(at, &["channel", "open", "shop", "--name", "찻집", "--wait", "all"]);
    assert!(opened.out.contains("channel shop (찻집) is open\nrevision 1, position 1, "), "{}", opened.out);
    assert!(opened.out.trim_end().ends_with("on disk at chungju, jeonju and seongju (all sites)"), "{}", opened.out);

    ok(at, &["friend", "add", "shop", "u-1", "--region", "서울", "--consent", "advertising", "--retry-key", "k1"]);
    let again =
        ok(at, &["friend", "add", "shop", "u-1", "--region", "서울", "--consent", "advertising", "--retry-key", "k1"]);
    assert!(again.out.contains("the original answer, given again"), "{}", again.out);
    let reused = run(at, &["friend", "add", "shop", "u-2", "--retry-key", "k1"]);
    assert_eq!(reused.code, 1);
    assert!(reused.err.contains("[RETRY_KEY_REUSED]"), "{}", reused.err);
    let twice = run(at, &["friend", "add", "shop", "u-1"]);
    assert_eq!((twice.code, twice.err.lines().count()), (1, 1), "{}", twice.err);

    ok(at, &["friend", "add", "shop", "u-2", "--region", "부산"]);
    let dry = ok(at, &["message", "broadcast", "shop", "--text", "문 열었어요", "--dry-run"]);
    assert!(dry.out.starts_with("2 friends × 15원 = 30원\n"), "{}", dry.out);
    let ad = ["message", "narrowcast", "shop", "--everyone", "--ad", "--text", "(광고) 햇차", "-o", "json"];
    let sent = ok(at, &ad).json();
    assert_eq!(sent["send"]["audienceCount"], "1", "{sent}");
    assert_eq!(sent["send"]["excludedWithoutConsent"], "1", "{sent}");
    let history = ok(at, &["message", "history", "shop", "--friend", "u-2", "-o", "json"]).json();
    assert_eq!(history["messages"], serde_json::Value::Null, "{history}");
    let message = sent["revision"].as_str().unwrap();
    let recipients = ok(at, &["message", "recipients", "shop", message]);
    assert!(recipients.out.contains("u-1") && !recipients.out.contains("u-2"), "{}", recipients.out);

    ok(at, &["coupon", "define", "shop", "tea", "--name", "첫 잔", "--cap", "1"]);
    ok(at, &["coupon", "issue", "shop", "tea", "u-1", "--ticket", "t-1"]);
    assert_eq!(run(at, &["coupon", "issue", "shop", "tea", "u-2"]).code, 1, "the cap is reached");
    ok(at, &["coupon", "redeem", "shop", "t-1"]);
    let twice = run(at, &["coupon", "redeem", "shop", "t-1"]);
    assert!(twice.err.contains("[TICKET_ALREADY_REDEEMED]"), "{}", twice.err);
    ok(at, &["coupon", "reverse", "shop", "t-1", "--reason", "잘못 눌렀어요"]);
    let ticket = ok(at, &["coupon", "ticket", "shop", "t-1", "-o", "json"]).json();
    assert_eq!(ticket["ticket"]["status"], "TICKET_STATUS_ISSUED", "{ticket}");

    let found = ok(at, &["events", "find", "shop", "--retry-key", "k1"]);
    assert!(found.out.starts_with("Yes, it was recorded."), "{}", found.out);
    assert_eq!(run(at, &["events", "find", "shop", "--retry-key", "never"]).code, 1);
    let events = ok(at, &["events", "read", "shop", "-o", "json"]);
    let revisions: Vec<String> = events
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"]["revision"].to_string())
        .collect();
    let gapless: Vec<String> = (1..=revisions.len()).map(|revision| format!("\"{revision}\"")).collect();
    assert_eq!(revisions, gapless);
    assert_eq!(ok(at, &["friend", "count", "shop", "--by", "region", "-o", "json"]).json()["count"], "2");

    dev.stop();
    let verified = ok(at, &["verify", "sillok-data/seongju", "-o", "json"]).json();
    assert_eq!(verified["damage"], serde_json::Value::Null, "{verified}");
}

#[test]
fn a_list_in_cp949_is_imported_once_and_its_wrong_rows_are_given_back() {
    let dir = dir();
    let at = dir.path();
    // 회원번호,지역\nm-1,서울\nm-2,부산\n,대구\n in CP949.
    let list = b"\xc8\xb8\xbf\xf8\xb9\xf8\xc8\xa3,\xc1\xf6\xbf\xaa\nm-1,\xbc\xad\xbf\xef\nm-2,\xba\xce\xbb\xea\n,\xb4\xeb\xb1\xb8\n";
    fs::write(at.join("list.csv"), list).unwrap();
    let dev = Dev::start(at, &[]);
    let import = ["import", "list.csv", "--channel", "shop", "--map", "user_key=회원번호,region=지역"];
    let early = run(at, &import);
    assert!(early.err.contains("open it first: sillok channel open shop"), "{}", early.err);
    ok(at, &["channel", "open", "shop", "--name", "가게"]);

    for (new, already) in [(2, 0), (0, 2)] {
        let done = run(at, &import);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.out.starts_with(&format!("{new} new, {already} already there, 1 rejected")), "{}", done.out);
    }
    let rejected = fs::read_to_string(at.join("rejected.csv")).unwrap();
    assert!(rejected.contains(",대구,4,INVALID_ROW,the user key is empty"), "{rejected}");
    let seoul = ok(at, &["friend", "list", "shop", "--where", "region=서울", "-o", "json"]).json();
    assert_eq!(seoul["friends"][0]["userKey"], "m-1", "{seoul}");
    dev.stop();
}

/// A list of 2,000 rows had one comma too many in the middle: the import ended there with "nothing was sent", after a thousand
/// friends had been added, and without a word about them.
#[test]
fn a_row_with_a_cell_too_many_and_one_too_large_stop_nothing() {
    let dir = dir();
    let at = dir.path();
    let dev = Dev::start(at, &[]);
    ok(at, &["channel", "open", "shop", "--name", "가게"]);
    let mut list = "user_key,region\n".to_owned();
    for number in 0..1200 {
        list.push_str(&match number {
            600 => "m-600,서울,종로\n".to_owned(),
            700 => "m-700\n".to_owned(),
            800 => format!("m-800,{}\n", "서".repeat(1 << 20)),
            _ => format!("m-{number},부산\n"),
        });
    }
    fs::write(at.join("list.csv"), &list).unwrap();
    let import = ["import", "list.csv", "--channel", "shop"];
    for (new, already) in [("1,197", "0"), ("0", "1,197")] {
        let done = run(at, &import);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.out.starts_with(&format!("{new} new, {already} already there, 3 rejected")), "{done:?}");
    }
    let rejected = fs::read_to_string(at.join("rejected.csv")).unwrap();
    assert!(rejected.contains("m-600,서울,602,INVALID_ROW,3 cells where the header has 2"), "{rejected:.400}");
    assert!(rejected.contains("m-700,,702,INVALID_ROW,1 cells where"), "{rejected:.400}");
    assert!(rejected.contains(",802,"), "the large one too");
    assert!(!at.join("rejected.csv.part").exists());

    // Bytes of no encoding are found before anything is sent.
    let mut broken = b"user_key\n".to_vec();
    broken.extend((0..40_000).flat_map(|number| format!("n-{number}\n").into_bytes()));
    broken.extend(b"\xff\xff\n");
    fs::write(at.join("broken.csv"), &broken).unwrap();
    let refused = run(at, &["import", "broken.csv", "--channel", "shop"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("line 40002: bytes that are no CP949 text"), "{}", refused.err);
    let count = ok(at, &["friend", "count", "shop", "-o", "json"]).json();
    assert_eq!(count["count"], "1197", "{count}");
    dev.stop();
}

#[test]
fn an_export_becomes_another_channel_with_the_same_content() {
    let dir = dir();
    let at = dir.path();
    let dev = Dev::start(at, &["--demo"]);
    ok(at, &["export", "bomnal", "--to", "bomnal.jsonl"]);
    for (new, already) in [(46, 0), (0, 46)] {
        let done = ok(at, &["import", "bomnal.jsonl", "--channel", "copy", "-o", "json"]).json();
        assert_eq!(done["contentDigestsAgree"], true, "{done}");
        assert_eq!((&done["new"], &done["already"]), (&new.to_string().into(), &already.to_string().into()), "{done}");
    }
    let occupied = run(at, &["import", "bomnal.jsonl", "--channel", "bomnal"]);
    assert_eq!(occupied.code, 1, "{occupied:?}");
    assert!(occupied.err.contains("[IMPORT_OUT_OF_ORDER]"), "{}", occupied.err);
    dev.stop();
}

#[test]
fn commands_of_a_file_are_refused_then_tried_anew_when_the_channel_is_there() {
    let dir = dir();
    let at = dir.path();
    let dev = Dev::start(at, &[]);
    fs::write(at.join("c.jsonl"), r#"{"addFriend":{"channelId":"later","userKey":"u-1"}}"#).unwrap();
    assert_eq!(run(at, &["import", "c.jsonl"]).code, 1, "the channel is not there");
    ok(at, &["channel", "open", "later", "--name", "나중"]);
    let done = ok(at, &["import", "c.jsonl"]);
    assert!(
        done.out.starts_with("1 new, 0 already there, 0 rejected"),
        "a refusal binds its key, not the row: {done:?}"
    );
    let done = ok(at, &["import", "c.jsonl"]);
    assert!(done.out.starts_with("0 new, 1 already there, 0 rejected"), "{done:?}");
    dev.stop();
}

/// No site answers and none is known to be dead: the connection stands, the command went out, and nobody knows what became of
/// it.
#[test]
fn a_write_without_an_answer_says_what_is_safe_to_repeat() {
    let dir = dir();
    let at = dir.path();
    let dev = Dev::start(at, &[]);
    ok(at, &["channel", "open", "shop", "--name", "가게"]);
    let frozen = dev.nodes();
    frozen.iter().for_each(|node| signal(*node, Signal::STOP));
    let unanswered = run(at, &["friend", "add", "shop", "u 1", "--timeout", "2s"]);
    frozen.iter().for_each(|node| signal(*node, Signal::CONT));
    assert_eq!(unanswered.code, 3, "{unanswered:?}");
    assert!(unanswered.err.starts_with("sillok: the outcome is unknown ("), "{}", unanswered.err);
    assert!(unanswered.err.contains("): it may or may not have been recorded\n"), "{}", unanswered.err);
    assert!(unanswered.err.contains("this is safe to repeat, and answers what became of it:\n"), "{}", unanswered.err);
    let repeat = unanswered.err.lines().last().unwrap();
    assert!(repeat.contains("friend add shop 'u 1' --timeout 2s --retry-key "), "{repeat}");
    let key = repeat.rsplit(' ').next().unwrap();
    eventually("the repeated command to be answered", || {
        let again = run(at, &["friend", "add", "shop", "u 1", "--retry-key", key]);
        (again.code == 0).then_some(())
    });
    dev.stop();
}

#[test]
fn nobody_listening_is_said_at_once() {
    let dir = dir();
    let answer = run(dir.path(), &["--endpoints", "127.0.0.1:1", "channel", "list"]);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.starts_with("sillok: nobody answers at 127.0.0.1:1; nothing was recorded\n"), "{}", answer.err);
}

#[test]
fn completions_are_a_script_that_the_shell_takes() {
    let dir = dir();
    let script = ok(dir.path(), &["completions", "bash"]).out;
    for word in ["friend", "drill", "--retry-key"] {
        assert!(script.contains(word), "{word} is not completed");
    }
    let file = dir.path().join("sillok.bash");
    fs::write(&file, script).unwrap();
    let script = "source \"$0\" && complete -p sillok";
    let taken = std::process::Command::new("bash").args(["-c", script]).arg(&file).output().unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}

#[test]
fn top_tells_where_time_goes_while_something_is_written() {
    let dir = dir();
    let dev = Dev::start(dir.path(), &[]);
    let at = dir.path();
    ok(at, &["channel", "open", "shop", "--name", "찻집"]);
    let (looking, looks) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Until nobody looks any more, for whichever reason.
            for number in 0.. {
                if looks.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    break;
                }
                ok(at, &["friend", "add", "shop", &format!("u-{number}")]);
            }
        });
        let _looking = looking;
        // A look may fall between two writes, and a node of a busy machine may not answer it in time.
        eventually("every stage to be seen at the leader, and folding at the others", || {
            let told = ok(at, &["top", "--once", "--every", "500ms", "-o", "json"]).json();
            let nodes = told["nodes"].as_array().unwrap();
            assert!(nodes.len() + told["silent"].as_array().unwrap().len() <= 3, "{told}");
            let stages = |node: &serde_json::Value| -> Vec<String> {
                let stages = node["stages"].as_array().unwrap();
                stages.iter().map(|stage| stage["stage"].as_str().unwrap().to_owned()).collect()
            };
            let (leaders, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node["leads"] == true);
            assert!(nodes.iter().all(|node| node["processors"].as_f64().is_some_and(|used| used >= 0.0)), "{told}");
            let all = ["queue", "decide", "commit", "fsync", "fold", "answer"];
            let seen = leaders.len() == 1 && stages(leaders[0]) == all;
            (seen && others.len() == 2 && others.iter().all(|node| stages(node) == ["fsync", "fold"])).then_some(())
        });
    });
    eventually("all sites to be shown", || {
        let shown = ok(at, &["top", "--once", "--every", "100ms"]);
        ["chungju", "seongju", "jeonju"].iter().all(|site| shown.out.contains(site)).then_some(())
    });
    dev.stop();
    // Where nobody listens; the ports of this cluster may be another's by now.
    let nobody = run(at, &["top", "--once", "--metrics", "127.0.0.1:1"]);
    assert!(nobody.err.contains("nobody tells metrics"), "{nobody:?}");
}
