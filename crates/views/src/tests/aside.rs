//! Rows that cannot be used are moved aside, and the views built anew.

use std::{fs, path::Path};

use super::{
    everything,
    spill::{asides, copy, folded_again, open, options, shop},
};
use crate::{Options, Views};

#[test]
fn rows_not_marked_before_a_reboot_are_moved_aside() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    views.close();
    drop(views);
    fs::remove_file(dir.join("mark")).unwrap();

    // The same boot: a killed process loses nothing that it wrote.
    let views = open(&dir);
    assert_eq!(views.applied().map(|applied| applied.index as usize + 1), Some(author.entries.len()));
    drop(views);
    let views = Views::open(Options { boot_id: "boot-2".into(), ..options(&dir) }, |_| true);
    assert_eq!(views.applied(), None);
    assert_eq!(asides(&dir).len(), 1);
    author.fold_all(&views);
    assert_eq!(everything(&views), folded_again(&author, usize::MAX));
}

#[test]
fn rows_that_the_chronicle_does_not_have_are_moved_aside_and_two_are_kept() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    for round in 1..=4 {
        let views = open(&dir);
        author.fold_all(&views);
        views.close();
        drop(views);
        let mut asked = None;
        let refuse = |applied: &crate::Applied| {
            asked = Some(applied.index);
            false
        };
        let views = Views::open(options(&dir), refuse);
        assert_eq!(asked, Some(author.entries.len() as u64 - 1));
        assert_eq!(views.applied(), None);
        assert_eq!(asides(&dir).len(), round.min(2));
    }
    assert!(dir.with_file_name("views.aside.4").exists());
}

#[test]
fn rows_of_another_cluster_are_moved_aside() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("views");
    let views = open(&dir);
    author.fold_all(&views);
    views.close();
    drop(views);
    let views = Views::open(Options { cluster_id: Some([8; 16]), ..options(&dir) }, |_| true);
    assert_eq!((views.applied(), asides(&dir).len()), (None, 1));
}

#[test]
fn damage_to_sleds_directory_is_moved_aside_and_built_again() {
    let author = shop();
    let temp = tempfile::tempdir().unwrap();
    let good = temp.path().join("good/views");
    let views = open(&good);
    author.fold_all(&views);
    let expected = everything(&views);
    views.close();
    drop(views);

    let log = fs::read(good.join("rows/db")).unwrap();
    let last = log.iter().rposition(|byte| *byte != 0).unwrap();
    type Damage = Box<dyn Fn(&Path)>;
    let mut damages: Vec<(String, Damage)> = vec![
        ("a leftover snapshot".into(), Box::new(|dir| fs::write(dir.join("rows/snap.0000.generating"), b"").unwrap())),
        ("no configuration".into(), Box::new(|dir| fs::write(dir.join("rows/conf"), b"nonsense").unwrap())),
        ("an empty log".into(), Box::new(|dir| fs::write(dir.join("rows/db"), b"").unwrap())),
    ];
    for nth in 0..24 {
        let at = last * nth / 24;
        damages.push((
            format!("a flipped bit at {at}"),
            Box::new(move |dir| {
                let mut log = fs::read(dir.join("rows/db")).unwrap();
                log[at] ^= 0x10;
                fs::write(dir.join("rows/db"), log).unwrap();
            }),
        ));
    }
    let mut moved = 0;
    for (nth, (what, damage)) in damages.iter().enumerate() {
        let dir = temp.path().join(format!("damaged-{nth}/views"));
        copy(&good, &dir);
        damage(&dir);
        let views = open(&dir);
        let folded = views.applied().map_or(0, |applied| applied.index as usize + 1);
        assert_eq!(everything(&views), folded_again(&author, folded), "{what}");
        moved += asides(&dir).len();
        author.fold_all(&views);
        assert_eq!(everything(&views), expected, "{what}");
    }
    assert!(moved > damages.len() / 2, "only {moved} of {} damages were noticed", damages.len());
}
