//! Wrong clocks, and who may lead with them.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::advance;

use super::*;

const SECOND: i64 = 1_000_000_000;
const BOUND: Duration = Duration::from_secs(5);

/// A wall clock that is set by hand and goes on by itself.
struct Wall {
    set: AtomicI64,
    began: Instant,
}

impl Wall {
    fn new() -> Arc<Wall> {
        Arc::new(Wall { set: AtomicI64::new(1_000_000 * SECOND), began: Instant::now() })
    }

    fn jump(&self, seconds: i64) {
        self.set.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn now(&self) -> UnixNanos {
        on(self.set.load(Ordering::Relaxed), self.began.elapsed())
    }
}

/// Node 1 of three, whose clock agrees with nobody's yet.
fn node() -> (Arc<Wall>, Clocks) {
    let wall = Wall::new();
    (wall.clone(), Clocks::new(1, wall, BOUND))
}

/// Peers answer within 10 ms; each number: how many seconds it is ahead of node 1.
fn compare(clocks: &Clocks, voters: u64, ahead: &[(u64, i64)]) {
    let mut round = clocks.round();
    round.voters = (1..=voters).collect();
    let read = |seconds: i64| Reading { ahead: seconds * SECOND, error: SECOND / 200 };
    round.readings = ahead.iter().map(|&(id, seconds)| (id, read(seconds))).collect();
    clocks.judge(round);
}

/// The clock of a leader was set an hour ahead by hand; every coupon that ended within the hour expired for everybody.
#[tokio::test(start_paused = true)]
async fn not_one_event_is_stamped_by_a_clock_that_has_jumped() {
    for jump in [3_600, -3_600] {
        let (wall, clocks) = node();
        compare(&clocks, 3, &[(2, 0), (3, 0)]);
        assert!(clocks.stamp().is_ok());
        wall.jump(jump);
        assert_eq!(clocks.stamp(), Err(Doubt::Jumped(jump * SECOND)), "before anybody was asked");
        compare(&clocks, 3, &[(2, -jump), (3, -jump)]);
        assert_eq!(clocks.stamp(), Err(Doubt::Off(jump * SECOND)));
        // It is set right.
        wall.jump(-jump);
        assert_eq!(clocks.stamp(), Err(Doubt::Off(jump * SECOND)), "nobody has confirmed it");
        compare(&clocks, 3, &[(2, 0), (3, 0)]);
        assert_eq!(clocks.stamp(), Ok(wall.now()));
    }
}

/// A jump while the peers were being asked: whether they jumped as well, this round cannot tell.
#[tokio::test(start_paused = true)]
async fn a_jump_during_a_comparison_is_not_judged_by_it() {
    let (wall, clocks) = node();
    compare(&clocks, 3, &[(2, 0), (3, 0)]);
    let mut round = clocks.round();
    round.voters = (1..=3).collect();
    let asked = Instant::now();
    advance(Duration::from_millis(10)).await;
    wall.jump(60);
    let reading = round.read(wall.now() - 60 * SECOND, asked, Instant::now());
    assert_eq!(reading, Reading { ahead: SECOND / 200, error: SECOND / 200 });
    round.readings = [(2, reading), (3, reading)].into();
    clocks.judge(round);
    assert_eq!(clocks.stamp(), Err(Doubt::Jumped(60 * SECOND)));
    compare(&clocks, 3, &[(2, -60), (3, -60)]);
    assert_eq!(clocks.stamp(), Err(Doubt::Off(60 * SECOND)));
}

/// All clocks were put right together, or the machine slept: it is the steady clock that is alone.
#[tokio::test(start_paused = true)]
async fn a_jump_that_a_peer_made_as_well_is_believed() {
    let (wall, clocks) = node();
    compare(&clocks, 3, &[(2, 0), (3, 0)]);
    wall.jump(60);
    assert!(clocks.stamp().is_err());
    compare(&clocks, 3, &[(2, 0)]);
    assert_eq!(clocks.stamp(), Ok(wall.now()));
}

/// With one site dark the clock that has jumped is one against one: that it jumped tells which is wrong.
#[tokio::test(start_paused = true)]
async fn of_two_clocks_the_one_that_jumped_is_off() {
    let (wall, clocks) = node();
    compare(&clocks, 3, &[(2, 0)]);
    assert!(clocks.stamp().is_ok());
    // The other one differs, and this one did not jump: nobody can tell.
    compare(&clocks, 3, &[(2, 60)]);
    assert!(clocks.stamp().is_ok());
    compare(&clocks, 3, &[(2, 0)]);
    wall.jump(60);
    compare(&clocks, 3, &[(2, -60)]);
    assert_eq!(clocks.stamp(), Err(Doubt::Off(60 * SECOND)));
    // Nobody answers: no quorum either, and nobody says that it is right.
    compare(&clocks, 3, &[]);
    assert_eq!(clocks.stamp(), Err(Doubt::Jumped(60 * SECOND)));
}

/// If every clock could be off, nobody would lead.
#[tokio::test(start_paused = true)]
async fn the_clock_in_the_middle_is_never_off() {
    for voters in 1..=6 {
        let (_, clocks) = node();
        // Node n is 10 n seconds ahead, or all but one stand together.
        for spread in [|id: i64| 10 * (id - 1), |id: i64| if id == 1 { 0 } else { 60 }] {
            let others: Vec<_> = (2..=voters).map(|id| (id, spread(id as i64))).collect();
            compare(&clocks, voters, &others);
            let off = (1..=voters).filter(|id| clocks.is_off(*id)).count();
            assert!(off < voters as usize, "all of {voters} are off");
            if voters == 3 {
                assert!(clocks.is_off(1), "and the first is, of three");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_or_a_node_that_does_not_vote_puts_nobody_off() {
    let (_, clocks) = node();
    let mut round = clocks.round();
    round.voters = (1..=3).collect();
    let vague = Reading { ahead: 60 * SECOND, error: 56 * SECOND };
    round.readings = [(2, vague), (3, vague)].into();
    clocks.judge(round);
    assert!(clocks.stamp().is_ok());
    compare(&clocks, 3, &[(2, 0), (3, 0), (4, 60), (5, 60), (6, 60)]);
    assert!(clocks.stamp().is_ok());
    assert!(clocks.is_off(4), "a learner's clock is judged all the same");
    assert_eq!(clocks.offsets()[&4], 60 * SECOND);
}

/// A new leader that had never asked anybody began with whatever its clock said.
#[tokio::test(start_paused = true)]
async fn nothing_is_stamped_before_most_have_been_asked() {
    let (_, clocks) = node();
    assert_eq!(clocks.stamp(), Err(Doubt::NotCompared));
    compare(&clocks, 3, &[]);
    assert_eq!(clocks.stamp(), Err(Doubt::NotCompared));
    compare(&clocks, 3, &[(2, 60), (3, 61)]);
    assert_eq!(clocks.stamp(), Err(Doubt::Off(-60 * SECOND)));
    let (_, clocks) = node();
    let mut round = clocks.round();
    round.voters = (1..=3).collect();
    round.silent = [2].into();
    clocks.judge(round);
    assert!(clocks.stamp().is_ok(), "an older version says nothing of its clock");
    let (_, alone) = node();
    compare(&alone, 1, &[]);
    assert!(alone.stamp().is_ok());
}
