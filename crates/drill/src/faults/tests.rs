//! A fault that does nothing would let every drill pass.

use std::time::Instant;

use sillok_chronicle::Disk as _;

use super::*;

fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the file is not followed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_node_gets_wrong_what_the_file_says_for_as_long_as_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faults.json");
    assert!(Followed::follow(path.clone()).is_err(), "no file");
    Faults::default().write(&path).unwrap();
    let followed = Followed::follow(path.clone()).unwrap();
    let clock = FaultyClock(Arc::clone(&followed));
    let disk = FaultyDisk(followed);
    let ahead = || clock.now() - SystemClock.now() > 3_000_000_000;
    assert!(!ahead());
    let file = disk.create(&dir.path().join("a")).unwrap();
    file.write_at(&[1; 100], 0).unwrap();

    Faults { clock_offset_ms: 3_600_000, sync_delay_ms: 40, disk_full: true }.write(&path).unwrap();
    until(ahead);
    let full = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    full(disk.create(&dir.path().join("b")).map(drop));
    full(file.write_at(&[1; 2], 99));
    full(file.set_len(101));
    file.write_at(&[2; 100], 0).unwrap();
    let begun = Instant::now();
    file.sync_data().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40));

    Faults::default().write(&path).unwrap();
    until(|| !ahead());
    file.write_at(&[1; 2], 99).unwrap();
}
