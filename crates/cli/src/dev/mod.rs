//! `sillok dev`: three sites on this machine, three real processes, one terminal.
//!
//! ```text
//! sillok-data/endpoints.json    where the other commands find the cluster; the ports are kept for the next start
//!            /lock              held while this command runs
//!            /chungju/node.toml what the node is told
//!                    /log       what the node says
//!                    /…         its chronicle and its views
//! ```

mod demo;
mod ports;
mod screen;
mod site;
mod watch;
mod writes;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use rand::Rng as _;
use sillok_client::Client;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    screen::{Key, Screen},
    site::Site,
    watch::{Watch, Watched},
    writes::Writes,
};
use crate::{
    endpoints::{DEV_DIR, DEV_FILE, DevEndpoints},
    failure::{Exit, Failure},
    format::{count, duration},
};

/// After the archives of the Veritable Records that stood on their mountains before the war.
const SITES: [&str; 3] = ["chungju", "seongju", "jeonju"];
/// A machine under load may take its time; usually it is under two seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often the sites are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How often ports are chosen anew where somebody takes one just then.
const TRIES: u32 = 5;

#[derive(Args)]
pub(crate) struct DevArgs {
    /// Where everything is kept
    #[arg(long, default_value = DEV_DIR, value_name = "DIR")]
    data_dir: PathBuf,
    /// Load a small Korean shop to play with, once
    #[arg(long)]
    demo: bool,
    /// Begin with writes going on all the time, as key w does
    #[arg(long)]
    writes: bool,
}

pub(crate) async fn run(args: DevArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut stop = Stop::new()?;
    std::fs::create_dir_all(&args.data_dir).map_err(|error| Failure::file(&args.data_dir, "make", &error))?;
    let _lock = lock(&args.data_dir)?;
    let file = args.data_dir.join(DEV_FILE);
    let known = crate::endpoints::read(&file)?;
    let mut tries = 0;
    let (cluster, client, mut watch, mut sites) = loop {
        // Several that start at once and lose a race for the same ports must not meet at the next ones again.
        let skipped = if tries == 0 { 0 } else { rand::rng().random_range(1..64) };
        let cluster = match &known {
            Some(known) => ports::settle(known, skipped).await,
            None => ports::choose(&SITES, skipped)?,
        };
        write_endpoints(&file, &cluster)?;
        let (client, mut watch, mut sites) = start(&cluster, &args.data_dir)?;
        let ready = tokio::select! {
            ready = until_ready(&mut watch, &mut sites) => ready,
            () = stop.asked() => return shut_down(sites, None).await,
        };
        tries += 1;
        match ready {
            Ok(()) => break (cluster, client, watch, sites),
            // Somebody took a port between its choice and its use.
            Err(failure) if failure.exit == Exit::Config && tries < TRIES => {
                for site in &mut sites {
                    site.kill();
                    site.wait_or_kill().await;
                }
            }
            Err(failure) => return Err(failure),
        }
    };
    greet(&args, &cluster, &watch.now(), begun.elapsed(), known.is_some());
    if args.demo {
        tokio::select! {
            loaded = demo::load(&client) => println!("{}", loaded?),
            () = stop.asked() => return shut_down(sites, None).await,
        }
    }

    let writes = Writes::new(client.clone(), args.writes);
    let mut screen = Screen::start();
    let result = play(&mut sites, &cluster, &args.data_dir, &mut watch, &writes, &mut screen, &mut stop).await;
    let stopped = shut_down(sites, Some(screen)).await;
    result.and(stopped)
}

type Started = (Client, Watch, Vec<Site>);

fn start(cluster: &DevEndpoints, data_dir: &Path) -> Result<Started, Failure> {
    let sites = cluster.sites.iter().map(|site| Site::start(site, cluster, data_dir)).collect::<Result<Vec<_>, _>>()?;
    let client = Client::builder()
        .endpoints(&cluster.endpoints)
        .connect_timeout(Duration::from_millis(300))
        .request_timeout(Duration::from_millis(500))
        .deadline(Duration::from_secs(30))
        .build()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let watch = Watch::start(&client, cluster);
    Ok((client, watch, sites))
}

/// Only one at a time.
fn lock(data_dir: &Path) -> Result<File, Failure> {
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(|error| Failure::file(&path, "write", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::usage(format!("another `sillok dev` runs on {}", data_dir.display()))
                .advise("use that one, or --data-dir with another directory"))
        }
        Err(TryLockError::Error(error)) => Err(Failure::file(&path, "lock", &error)),
    }
}

fn write_endpoints(path: &Path, cluster: &DevEndpoints) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(cluster).map_err(|error| Failure::usage(error.to_string()))?;
    let part = path.with_extension("json.part");
    std::fs::write(&part, text + "\n")
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|error| Failure::file(path, "write", &error))
}

/// All three are up, one of them leads, and a read that needs the majority is answered.
async fn until_ready(watch: &mut Watch, sites: &mut [Site]) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let now = watch.now();
        if now.up.iter().all(|up| *up) && now.leader.is_some() && now.answered.is_some() {
            return Ok(());
        }
        for site in sites.iter_mut() {
            if let Some(end) = site.ended() {
                return Err(Failure::new(end.exit(), format!("{} stopped while starting: {end}", site.name()))
                    .advise(format!("its last words, from {}:", site.log().display()))
                    .advise(site.last_words()));
            }
        }
        if Instant::now() > deadline {
            let span = duration(READY_WITHIN);
            return Err(Failure::new(Exit::Unavailable, format!("the sites are not ready after {span}"))
                .advise(format!("see {} and the logs beside it", sites[0].log().display())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn greet(args: &DevArgs, cluster: &DevEndpoints, now: &Watched, took: Duration, again: bool) {
    let again = if again { ", everything found again" } else { "" };
    println!("three sites are ready in {}{again}", duration(took));
    for (index, site) in cluster.sites.iter().enumerate() {
        let leads = if now.leader == Some(site.id) { "  leads" } else { "" };
        println!(
            "  [{}] {:<8} clients {}  peers {}  metrics http://{}/metrics{leads}",
            index + 1,
            site.site,
            site.client,
            site.peer,
            site.http
        );
    }
    let usual = args.data_dir == Path::new(DEV_DIR);
    if usual {
        println!("in another terminal, here: sillok channel list");
    } else {
        println!("in another terminal: sillok --endpoints {} channel list", cluster.endpoints.join(","));
    }
}

async fn play(
    sites: &mut [Site],
    cluster: &DevEndpoints,
    data_dir: &Path,
    watch: &mut Watch,
    writes: &Writes,
    screen: &mut Screen,
    stop: &mut Stop,
) -> Result<(), Failure> {
    screen.line(screen.help());
    let mut ticks = tokio::time::interval(LOOK);
    let mut before = watch.now();
    loop {
        tokio::select! {
            () = stop.asked() => return Ok(()),
            key = screen.key() => match key {
                Key::Site(index) if index < sites.len() => {
                    let line = toggle(&mut sites[index], &cluster.sites[index], cluster, data_dir)?;
                    // It may be up again before anybody looked: that is told all the same.
                    watch.turned(index);
                    before.up[index] = false;
                    screen.line(&line);
                }
                Key::Site(_) => {}
                Key::Writes => screen.line(writes.toggle()),
                Key::Quit => return Ok(()),
            },
            _ = ticks.tick() => {
                let now = watch.now();
                for site in sites.iter_mut() {
                    if let Some(end) = site.ended() {
                        let how_to = if screen.has_keys() { "; its key starts it again" } else { "" };
                        screen.line(&format!("{} stopped by itself: {end}{how_to}; see {}", site.name(), site.log().display()));
                    }
                }
                tell_changes(&before, &now, cluster, screen);
                let running: Vec<bool> = sites.iter().map(Site::is_running).collect();
                screen.status(&now.line(cluster, &running, &writes.line()));
                before = now;
            }
        }
    }
}

fn toggle(
    site: &mut Site,
    dev: &crate::endpoints::DevSite,
    cluster: &DevEndpoints,
    data_dir: &Path,
) -> Result<String, Failure> {
    if site.is_running() {
        site.kill();
        return Ok(format!("{} is killed (kill -9)", site.name()));
    }
    *site = Site::start(dev, cluster, data_dir)?;
    Ok(format!("{} starts again", site.name()))
}

fn tell_changes(before: &Watched, now: &Watched, cluster: &DevEndpoints, screen: &mut Screen) {
    let name = |id: u64| cluster.sites.iter().find(|site| site.id == id).map_or("?", |site| site.site.as_str());
    if now.leader != before.leader {
        match (now.leader, now.gap) {
            (Some(id), Some(gap)) => {
                screen.line(&format!("{} leads; there was no answer for {}", name(id), duration(gap)));
            }
            (Some(id), None) => screen.line(&format!("{} leads", name(id))),
            (None, _) => screen.line("nobody leads"),
        }
    }
    for (index, site) in cluster.sites.iter().enumerate() {
        if now.up[index] && !before.up[index] {
            screen.line(&format!("{} is up", site.site));
        }
    }
}

/// All together: none of them has to wait for another.
async fn shut_down(mut sites: Vec<Site>, screen: Option<Screen>) -> Result<(), Failure> {
    if let Some(mut screen) = screen {
        screen.line("stopping");
        drop(screen);
    }
    for site in &mut sites {
        site.ask_to_stop();
    }
    let mut killed = 0;
    for site in &mut sites {
        killed += u64::from(site.wait_or_kill().await);
    }
    match killed {
        0 => println!("stopped; every acknowledged event is kept for the next start"),
        some => println!(
            "stopped, {} by force; every acknowledged event is kept for the next start",
            count(some, "site", "sites")
        ),
    }
    Ok(())
}

/// Ctrl-C where it is no key, and a polite request of the system.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::usage(format!("no signals: {error}")));
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
