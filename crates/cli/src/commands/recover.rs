//! `sillok cluster recover`: a quorum is lost for good. Offline, on the data directories of stopped nodes.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use sillok_chronicle::{Disk, RealDisk, VerifyError};
use sillok_cluster::{
    SystemClock,
    recover::{self, ActError, Alive, Mark, Missing, Order, Plan, PlanError, SurveyError, Survivor},
};

use crate::{
    failure::{Exit, Failure},
    format::{count, list_and, shell_word, thousands, time},
    output::Out,
    progress,
    table::Rows,
};

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// The data directory of a surviving node, which must be stopped, or a whole copy of it; name every survivor
    #[arg(long = "data-dir", required = true, value_name = "DIR")]
    data_dirs: Vec<PathBuf>,
    /// The cluster's id, as the dry run shows it: begin a new epoch from the freshest survivor. There is no way back
    #[arg(long, requires_all = ["actor", "reason", "allow_single_site_quorum"], value_name = "CLUSTER")]
    confirm: Option<String>,
    /// Who decides it; recorded for ever
    #[arg(long, env = "SILLOK_ACTOR", value_name = "NAME")]
    actor: Option<String>,
    /// Why; recorded for ever
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The survivor will be the only voter until nodes are added: until then its loss loses data
    #[arg(long)]
    allow_single_site_quorum: bool,
}

pub(crate) async fn run(args: RecoverArgs, out: Out) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut survivors = Vec::new();
    for dir in &args.data_dirs {
        let bar = progress::bytes("reading");
        let survivor = recover::survey(&disk, dir, |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
            bar.set_message(format!("{}: {}", dir.display(), count(progress.entries, "entry", "entries")));
        });
        bar.finish_and_clear();
        survivors.push(survivor.map_err(|error| unreadable(&error))?);
    }
    let plan = recover::plan(survivors).map_err(|error| unplanned(&error))?;
    let alive = recover::alive(&plan).await;
    let Some(confirm) = &args.confirm else {
        out.answer_text(&text(&plan, &alive), json(&plan, &alive))?;
        return if alive.is_empty() { Ok(()) } else { Err(still_alive(&alive)) };
    };
    if !alive.is_empty() {
        return Err(still_alive(&alive));
    }
    let order = Order {
        confirm: confirm.clone(),
        actor: args.actor.clone().unwrap_or_default(),
        reason: args.reason.clone().unwrap_or_default(),
        allow_single_site_quorum: args.allow_single_site_quorum,
        now: sillok_cluster::Clock::now(&SystemClock),
    };
    let done = recover::act(&disk, &plan, &order).map_err(|error| {
        let exit = if matches!(error, ActError::Open(_) | ActError::Write(_)) { Exit::No } else { Exit::Usage };
        Failure::new(exit, error.to_string())
    })?;
    let node = &plan.base().identity;
    let (id, site) = (node.node_id, &node.site);
    let person = format!(
        "epoch {} of cluster {} begins: node {id} at {site} is its only voter, and goes on after position {}\n\
         next: start node {id}; then add two blank nodes at two other sites, under ids that were never used:\n  \
         sillok cluster add id=N,site=SITE,peer=HOST:PORT,client=HOST:PORT --allow-single-site-quorum\n  \
         sillok cluster add id=M,site=OTHER_SITE,peer=HOST:PORT,client=HOST:PORT\n\
         erase the lost nodes' disks wherever they turn up; until then each is refused and stands still",
        done.epoch,
        plan.cluster_id,
        thousands(done.sequence),
    );
    let script = serde_json::json!({
        "clusterId": plan.cluster_id, "epoch": done.epoch.to_string(), "nodeId": id.to_string(), "site": site,
        "index": done.index.to_string(), "term": done.term.to_string(), "keptSequence": done.sequence.to_string(),
    });
    out.answer_text(&person, script)
}

fn unreadable(error: &SurveyError) -> Failure {
    let exit = match error {
        SurveyError::Verify { source: VerifyError::Damaged(_), .. } | SurveyError::Entry { .. } => Exit::Damaged,
        SurveyError::Verify { source: VerifyError::Io { .. }, .. } => Exit::No,
        SurveyError::Verify { .. } => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}

fn unplanned(error: &PlanError) -> Failure {
    let exit = match error {
        PlanError::NoneSound(_) | PlanError::Contradiction { .. } => Exit::Damaged,
        PlanError::HoldsQuorum { .. } | PlanError::NotAMember { .. } => Exit::No,
        _ => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}

fn still_alive(alive: &[Alive]) -> Failure {
    let each: Vec<String> =
        alive.iter().map(|node| format!("node {} at {} ({})", node.id, node.site, node.peer_address)).collect();
    let message = format!(
        "{} still {}: recovering now would begin a second history beside the one that goes on; nothing was changed",
        list_and(&each),
        if alive.len() == 1 { "runs" } else { "run" },
    );
    Failure::no(message).advise("stop it and name its data directory too, or bring the others back")
}

fn text(plan: &Plan, alive: &[Alive]) -> String {
    let base = plan.base();
    let (id, site) = (base.identity.node_id, &base.identity.site);
    let mut rows = Rows::new(&["survivor", ">node", ">last entry", ">committed", ">position", ">certain", "state"]);
    for survivor in &plan.survivors {
        rows.push([
            survivor.identity.site.clone(),
            survivor.identity.node_id.to_string(),
            place(survivor.last),
            place(survivor.certain),
            position(survivor.last),
            position(survivor.certain),
            state(survivor, survivor.identity.node_id == id),
        ]);
    }
    let certain = plan.certain();
    let last = plan.last();
    let mut lines = vec![
        format!("cluster {}, epoch {}", plan.cluster_id, plan.epoch().number),
        String::new(),
        rows.render(),
        String::new(),
        format!("freshest  node {id} at {site}: {}", why(plan)),
        format!("certain   up to position {}: known here to be committed", position(certain)),
        match plan.uncertain_events() {
            0 => format!("kept      nothing stands beyond that up to its end, position {}", thousands(last.sequence)),
            uncertain => format!(
                "kept      {} beyond that, up to position {}: acknowledged or not, {} kept",
                count(uncertain, "event or refusal", "events and refusals"),
                thousands(last.sequence),
                if uncertain == 1 { "it is" } else { "they are" },
            ),
        },
        format!("missing   {}", missing(plan)),
        format!("given up  {}", given_up(plan)),
    ];
    if plan.unfinished {
        lines.push(
            "unfinished  an earlier recovery was interrupted; it goes on, with the actor and reason it began with"
                .into(),
        );
    }
    lines.push(String::new());
    lines.push("nothing was changed; this was a dry run".to_owned());
    if alive.is_empty() {
        let dirs = plan
            .survivors
            .iter()
            .map(|survivor| format!(" --data-dir {}", shell_word(&survivor.dir.display().to_string())));
        lines.push(format!(
            "to begin epoch {} from node {id}, for ever, and only once no other node can come back:\n  sillok cluster \
             recover{} --confirm {} --actor NAME --reason TEXT --allow-single-site-quorum",
            plan.next_epoch(),
            dirs.collect::<String>(),
            plan.cluster_id,
        ));
    }
    lines.join("\n")
}

fn why(plan: &Plan) -> String {
    let base = plan.base();
    let sound = plan.survivors.iter().filter(|survivor| survivor.damage.is_none() && survivor.last.is_some()).count();
    match sound {
        1 if plan.survivors.len() == 1 => "it is the only one".to_owned(),
        1 => "it is the only one that is not damaged or blank".to_owned(),
        _ => {
            let terms = plan.survivors.iter().filter_map(|survivor| Some(survivor.last?.term)).max();
            let newest = base.last.map(|last| last.term);
            let ties = plan.survivors.iter().filter(|other| other.last.map(|last| last.term) == newest).count();
            if newest == terms && ties == 1 {
                "its last entry is of the newest term"
            } else {
                "its log is the longest of the newest term"
            }
            .to_owned()
        }
    }
}

fn missing(plan: &Plan) -> String {
    match plan.missing {
        Missing::Nothing => {
            "nothing: the lost nodes were no quorum by themselves, so whatever was acknowledged stands here".to_owned()
        }
        Missing::Unknown { since } => format!(
            "the lost nodes were a quorum without {}: whatever they acknowledged since {} is lost with them; how much, can \
             not be known from here",
            if plan.survivors.len() == 1 { "this one" } else { "these" },
            since.map_or_else(|| "the beginning".to_owned(), |at| time(Some(&sillok_wire::timestamp(at)))),
        ),
    }
}

fn given_up(plan: &Plan) -> String {
    let each: Vec<String> = plan
        .lost
        .iter()
        .map(|node| format!("node {} at {}{}", node.id, node.site, if node.is_voter { "" } else { " (a learner)" }))
        .collect();
    if each.is_empty() { "nobody".to_owned() } else { format!("{}, for ever", list_and(&each)) }
}

fn place(mark: Option<Mark>) -> String {
    mark.map_or_else(|| "–".to_owned(), |mark| format!("{}.{}", mark.term, mark.index))
}

fn position(mark: Option<Mark>) -> String {
    mark.map_or_else(|| "0".to_owned(), |mark| thousands(mark.sequence))
}

fn state(survivor: &Survivor, is_base: bool) -> String {
    match &survivor.damage {
        Some(damage) => format!("DAMAGED: {} at byte {}", damage.segment, damage.offset),
        None if survivor.superseded_by > survivor.epoch.number => {
            format!("left behind in epoch {}", survivor.epoch.number)
        }
        None if is_base => "freshest".to_owned(),
        None => "sound".to_owned(),
    }
}

fn json(plan: &Plan, alive: &[Alive]) -> serde_json::Value {
    let mark = |mark: Option<Mark>| {
        mark.map(|mark| {
            serde_json::json!({
                "term": mark.term.to_string(), "index": mark.index.to_string(), "sequence": mark.sequence.to_string(),
            })
        })
    };
    let survivors: Vec<_> = plan
        .survivors
        .iter()
        .map(|survivor| {
            serde_json::json!({
                "dataDir": survivor.dir.display().to_string(), "nodeId": survivor.identity.node_id.to_string(),
                "site": survivor.identity.site, "epoch": survivor.epoch.number.to_string(),
                "last": mark(survivor.last), "committed": mark(survivor.certain),
                "damage": survivor.damage.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let missing = match plan.missing {
        Missing::Nothing => serde_json::json!({ "possible": false }),
        Missing::Unknown { since } => serde_json::json!({
            "possible": true, "since": since.map(|at| time(Some(&sillok_wire::timestamp(at)))),
        }),
    };
    serde_json::json!({
        "clusterId": plan.cluster_id, "epoch": plan.epoch().number.to_string(),
        "nextEpoch": plan.next_epoch().to_string(), "freshest": plan.base().identity.node_id.to_string(),
        "certain": mark(plan.certain()), "kept": mark(Some(plan.last())),
        "uncertainEvents": plan.uncertain_events().to_string(), "missing": missing, "unfinished": plan.unfinished,
        "lostNodeIds": plan.lost.iter().map(|node| node.id.to_string()).collect::<Vec<_>>(),
        "alive": alive.iter().map(|node| node.id.to_string()).collect::<Vec<_>>(), "survivors": survivors,
    })
}
