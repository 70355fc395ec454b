//! How fast folding is; run by hand: `cargo test --release -p sillok-views speed -- --ignored --nocapture`.

use std::{fs, time::Instant};

use crate::{
    Options, Views,
    testing::{Author, added, opened},
};

/// Nanoseconds that this thread was on a CPU: other work on the machine does not count.
fn cpu_nanos() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints numbers, proves nothing"]
fn folding_friend_adds_and_pushes() {
    const FRIENDS: u32 = 200_000;
    let mut author = Author::new();
    author.events("shop-0", &[opened()]);
    for number in 1..=FRIENDS {
        author.events("shop-0", &[added(number, &format!("user-{number:08}"), "서울")]);
        if number % 500 == 0 {
            author.close();
        }
    }
    let adds = author.entries.len();
    for number in 1..=FRIENDS {
        let push = sillok_domain::Event::PushAccepted {
            friend_number: number,
            text: "오늘 저녁 예약하신 자리가 준비되었습니다. 여섯 시에 뵙겠습니다.".into(),
            is_ad: false,
            unit_price_won: 15,
        };
        author.events("shop-0", &[push]);
        if number % 500 == 0 {
            author.close();
        }
    }
    author.close();
    let temp = tempfile::tempdir().unwrap();
    let options = Options {
        spill_every: std::time::Duration::from_secs(3_600),
        spill_rows: usize::MAX,
        ..Options::at(temp.path().join("views"), Some([1; 16]), "boot")
    };
    let views = Views::open(options.clone(), |_| true);
    views.set_spillable(u64::MAX - 1);
    for (what, to) in [("friend adds", adds), ("pushes", author.entries.len())] {
        let began = cpu_nanos();
        author.fold_to(&views, to);
        println!("{what}: {:.2} µs of CPU an event", (cpu_nanos() - began) / 1e3 / f64::from(FRIENDS));
    }
    let began = Instant::now();
    assert!(views.spill_now(true));
    println!("spill of everything: {:.2} s", began.elapsed().as_secs_f64());
    views.close();
    drop(views);
    let began = Instant::now();
    let views = Views::open(options, |_| true);
    println!("load: {:.2} s, at {:?}", began.elapsed().as_secs_f64(), views.applied().map(|applied| applied.sequence));
}
