//! One drill from its first process to its report.

use std::{sync::Arc, time::Duration};

use crate::{
    DrillError, Verdict, check,
    drills::{DRILLS, Drill},
    ledger::{self, Ledger},
    report::Report,
    screen::Observer,
    stage::{Options, Stage},
};

/// Every node has folded everything within this, once the load has ended.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs a drill. A broken promise is in the report; an error says that there is none.
///
/// # Errors
/// The cluster could not be started, or not be read at the end.
pub async fn run(drill: &Drill, options: Options, observer: Arc<dyn Observer>) -> Result<Report, DrillError> {
    if options.compose.is_some() && !drill.compose {
        let names: Vec<_> = DRILLS.iter().filter(|drill| drill.compose).map(|drill| drill.name).collect();
        return Err(DrillError::NotInCompose(drill.name, names.join(", ")));
    }
    let mut stage = Stage::set(options, drill, observer).await?;
    let loaded = stage.recorder.now();
    let went = drill.play(&mut stage).await;
    stage.promise("to-the-end", "The drill can be run to its end", went.map_err(|error| error.to_string()));
    stage.cluster.heal()?;
    if let Some(file) = stage.cluster.file_of_replacements() {
        stage.note(format!(
            "replaced nodes are described in {}: name it with -f behind the compose file from now on",
            file.display()
        ));
    }
    let unloaded = stage.recorder.now();
    stage.note("the load ends; every node is read back and compared");
    let judged = judge(&mut stage).await;
    let ledgers = match judged {
        Ok(ledgers) => {
            stage.promise("settled", "Every node comes to the same position once the load ends", Ok(()));
            ledgers
        }
        Err(error) => {
            let logs: Vec<String> =
                stage.cluster.running().map(|node| format!("{}: {}", node.site, node.log_tail())).collect();
            let why = format!("{error}\n{}", logs.join("\n"));
            stage.promise("settled", "Every node comes to the same position once the load ends", Err(why));
            Vec::new()
        }
    };
    let history = stage.recorder.look(Clone::clone);
    let mut verdicts = check::check(&history, &ledgers);
    if ledgers.is_empty() {
        let mut verdict = Verdict::new("lost", "No acknowledged event is lost");
        verdict.broken(|| "nothing could be read back".to_owned());
        verdicts.push(verdict);
    }
    verdicts.append(&mut stage.promises);
    Ok(Report::new(drill, &stage, &history, verdicts, (loaded, unloaded)))
}

async fn judge(stage: &mut Stage) -> Result<Vec<Ledger>, DrillError> {
    // The clients ask once more for what they gave up, so a leader is needed first.
    stage.cluster.leader().await?;
    stage.stop_load().await;
    stage.cluster.settle(SETTLED).await?;
    let mut ledgers = Vec::new();
    for node in stage.cluster.running() {
        ledgers.push(ledger::read_back(node, &stage.channels).await?);
    }
    Ok(ledgers)
}
