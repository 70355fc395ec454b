//! The catalogue: each drill a short script in a file of its own, over the verbs of [`Stage`].

mod bit_rot;
mod clock_jump;
mod cold_start;
mod disk;
mod flapping_link;
mod follower_site_fire;
mod full_disk;
mod last_survivor;
mod leader_site_fire;
mod long_absence;
mod one_way_partition;
mod partition;
mod pause;
mod retry_storm;
mod returning_ghost;
mod rolling_restart;
mod rolling_upgrade;
mod slow_disk;
mod slow_link;
mod torn_tail;
mod two_of_three;
mod views_lost;

use futures::future::LocalBoxFuture;

use crate::{DrillError, stage::Stage};

type Script = for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Result<(), DrillError>>;

/// One drill.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// What it is called.
    pub name: &'static str,
    /// What it breaks, in one line.
    pub breaks: &'static str,
    /// What it promises besides that nothing is lost, doubled or contradicted.
    pub promises: &'static str,
    /// It breaks links between nodes.
    pub(crate) links: bool,
    /// It makes clocks and disks of nodes wrong.
    pub(crate) faults: bool,
    /// Its nodes read their whole chronicles every second, and not once a day.
    pub(crate) scrubs: bool,
    /// It can be run on a compose cluster.
    pub(crate) compose: bool,
    script: Script,
}

impl Drill {
    pub(crate) async fn play(&self, stage: &mut Stage) -> Result<(), DrillError> {
        (self.script)(stage).await
    }
}

/// All of them, in the order of the catalogue.
pub const DRILLS: &[Drill] = &[
    leader_site_fire::DRILL,
    follower_site_fire::DRILL,
    two_of_three::DRILL,
    last_survivor::DRILL,
    partition::DRILL,
    one_way_partition::DRILL,
    flapping_link::DRILL,
    slow_link::DRILL,
    pause::DRILL,
    slow_disk::DRILL,
    full_disk::DRILL,
    bit_rot::DRILL,
    torn_tail::DRILL,
    views_lost::DRILL,
    rolling_restart::DRILL,
    rolling_upgrade::DRILL,
    cold_start::DRILL,
    returning_ghost::DRILL,
    clock_jump::DRILL,
    long_absence::DRILL,
    retry_storm::DRILL,
];

/// The drill of this name.
///
/// # Errors
/// There is none.
pub fn drill(name: &str) -> Result<&'static Drill, DrillError> {
    DRILLS.iter().find(|drill| drill.name == name).ok_or_else(|| DrillError::NoSuchDrill(name.to_owned()))
}
