//! A running compose cluster: its containers, what connects them, and its volumes, by way of the `docker` command line.
//!
//! A node's container is told apart by its environment (`SILLOK_NODE__ID`), so the file may call its services as it likes. The
//! network that is cut in a partition is the one that joins services; each site's own network still lets clients in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::DrillError;

/// One compose project.
#[derive(Debug)]
pub(crate) struct Compose {
    file: PathBuf,
    /// `docker compose`, or `docker-compose` where that is what there is.
    program: Vec<String>,
    /// What replaced nodes are told besides the file, by service.
    overrides: BTreeMap<String, u64>,
    /// Where that is written; it stays, because the containers need it from then on.
    override_file: PathBuf,
    /// Networks that join services.
    between: BTreeSet<String>,
    /// Containers that were cut off, and their alias.
    cut_off: BTreeMap<String, String>,
}

/// A container that runs a node.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) node_id: u64,
    pub(crate) site: String,
    pub(crate) client: SocketAddr,
    pub(crate) peer_name: String,
    pub(crate) client_name: String,
    pub(crate) volume: String,
    pub(crate) networks: BTreeSet<String>,
    pub(crate) is_up: bool,
}

impl Compose {
    /// Finds the containers of a file whose project runs.
    ///
    /// # Errors
    /// There is no docker, or what runs is no cluster of nodes with published client ports.
    pub(crate) fn attach(file: &Path, dir: &Path) -> Result<(Compose, Vec<Container>), DrillError> {
        let plugin = Command::new("docker").args(["compose", "version"]).output();
        let program = match plugin {
            Ok(output) if output.status.success() => vec!["docker".to_owned(), "compose".to_owned()],
            _ => vec!["docker-compose".to_owned()],
        };
        let (overrides, override_file) = (BTreeMap::new(), dir.join("docker-compose.drill.yml"));
        let (between, cut_off) = (BTreeSet::new(), BTreeMap::new());
        let file = file.to_owned();
        let mut compose = Compose { file, program, overrides, override_file, between, cut_off };
        let mut containers = Vec::new();
        for id in compose.run(&["ps", "-q"])?.split_whitespace() {
            let described = docker(&["inspect", id])?;
            let described: Value = serde_json::from_str(&described)?;
            containers.extend(Container::of(&described[0]));
        }
        if containers.len() < 3 {
            let found = containers.len();
            return Err(DrillError::Compose(format!(
                "{found} running nodes with a published client port were found, and a drill needs three; is it up?"
            )));
        }
        let mut seen = BTreeMap::new();
        for network in containers.iter().flat_map(|container| &container.networks) {
            *seen.entry(network.clone()).or_insert(0) += 1;
        }
        compose.between = seen.into_iter().filter_map(|(network, times)| (times > 1).then_some(network)).collect();
        containers.sort_by_key(|container| container.node_id);
        Ok((compose, containers))
    }

    fn run(&self, arguments: &[&str]) -> Result<String, DrillError> {
        let mut words: Vec<&str> = self.program.iter().map(String::as_str).collect();
        let (file, more) = (self.file.to_string_lossy(), self.override_file.to_string_lossy());
        words.extend(["-f", &file]);
        if !self.overrides.is_empty() {
            words.extend(["-f", &more]);
        }
        words.extend(arguments);
        run(&words)
    }

    /// Nothing passes between this container and any other; clients reach it as before.
    pub(crate) fn cut_off(&mut self, container: &Container) -> Result<(), DrillError> {
        for network in &self.between {
            docker(&["network", "disconnect", network, &container.name])?;
        }
        self.cut_off.insert(container.name.clone(), container.service.clone());
        Ok(())
    }

    /// Everything passes again.
    pub(crate) fn heal(&mut self) -> Result<(), DrillError> {
        while let Some((name, service)) = self.cut_off.pop_first() {
            for network in &self.between {
                docker(&["network", "connect", "--alias", &service, network, &name])?;
            }
        }
        Ok(())
    }

    /// Removes the container and its volume.
    pub(crate) fn erase(&self, container: &Container) -> Result<(), DrillError> {
        docker(&["rm", "--force", &container.name])?;
        docker(&["volume", "rm", &container.volume]).map(drop)
    }

    /// Starts the container that is there, or a blank one with the id it was given.
    pub(crate) fn start(&mut self, container: &Container, is_blank: bool) -> Result<(), DrillError> {
        if !is_blank {
            return docker(&["start", &container.name]).map(drop);
        }
        self.overrides.insert(container.service.clone(), container.node_id);
        let text = fs::read_to_string(&self.file).map_err(DrillError::file("read", &self.file))?;
        // The older program wants the same version in both.
        let mut more = text.lines().find(|line| line.starts_with("version:")).unwrap_or_default().to_owned();
        more.push_str("\nservices:\n");
        for (service, id) in &self.overrides {
            // Writing to a string cannot fail.
            let _ = write!(
                more,
                "  {service}:\n    environment:\n      SILLOK_NODE__ID: \"{id}\"\n      SILLOK_CLUSTER__INITIAL: \"[]\"\n"
            );
        }
        fs::write(&self.override_file, more).map_err(DrillError::file("write", &self.override_file))?;
        self.run(&["up", "-d", "--no-build", "--no-deps", &container.service]).map(drop)
    }

    /// How the project is started from now on, where nodes were replaced.
    pub(crate) fn file_of_replacements(&self) -> Option<&Path> {
        (!self.overrides.is_empty()).then_some(self.override_file.as_path())
    }
}

impl Container {
    /// As `docker inspect` describes it; `None` where it runs no node, or hides its client port.
    fn of(described: &Value) -> Option<Container> {
        let environment: BTreeMap<&str, &str> = described["Config"]["Env"]
            .as_array()?
            .iter()
            .filter_map(|variable| variable.as_str()?.split_once('='))
            .collect();
        let site = (*environment.get("SILLOK_NODE__SITE")?).to_owned();
        let port_of = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let client_port = environment.get("SILLOK_LISTEN__CLIENT").and_then(|address| port_of(address))?;
        let published = &described["NetworkSettings"]["Ports"][format!("{client_port}/tcp")][0]["HostPort"];
        let volume = described["Mounts"].as_array()?.iter().find(|mount| mount["Type"] == "volume")?;
        let networks = described["NetworkSettings"]["Networks"].as_object()?;
        Some(Container {
            name: described["Name"].as_str()?.trim_start_matches('/').to_owned(),
            service: described["Config"]["Labels"]["com.docker.compose.service"].as_str()?.to_owned(),
            node_id: environment.get("SILLOK_NODE__ID")?.parse().ok()?,
            site,
            client: SocketAddr::from(([127, 0, 0, 1], published.as_str()?.parse().ok()?)),
            peer_name: (*environment.get("SILLOK_ADVERTISE__PEER")?).to_owned(),
            client_name: (*environment.get("SILLOK_ADVERTISE__CLIENT")?).to_owned(),
            volume: volume["Name"].as_str()?.to_owned(),
            networks: networks.keys().cloned().collect(),
            is_up: described["State"]["Running"].as_bool()?,
        })
    }
}

/// What a `docker` command prints.
pub(crate) fn docker(arguments: &[&str]) -> Result<String, DrillError> {
    let mut words = vec!["docker"];
    words.extend(arguments);
    run(&words)
}

fn run(words: &[&str]) -> Result<String, DrillError> {
    let failed = |why: String| DrillError::Compose(format!("`{}`: {why}", words.join(" ")));
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_its_environment_and_nothing_else_is_taken_for_one() {
        let described = serde_json::json!({
            "Name": "/shop_seongju_1",
            "State": { "Running": true },
            "Config": {
                "Env": ["PATH=/usr/bin", "SILLOK_NODE__ID=2", "SILLOK_NODE__SITE=seongju", "SILLOK_LISTEN__CLIENT=0.0.0.0:7401",
                        "SILLOK_ADVERTISE__PEER=seongju:7501", "SILLOK_ADVERTISE__CLIENT=seongju:7401"],
                "Labels": { "com.docker.compose.service": "seongju" },
            },
            "Mounts": [{ "Type": "volume", "Name": "shop_seongju" }],
            "NetworkSettings": {
                "Ports": { "7401/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "7402" }], "7501/tcp": null },
                "Networks": { "shop_between": {}, "shop_seongju": {} },
            },
        });
        let node = Container::of(&described).unwrap();
        assert_eq!((node.node_id, node.site.as_str(), node.client.port()), (2, "seongju", 7402));
        assert_eq!((node.name.as_str(), node.peer_name.as_str()), ("shop_seongju_1", "seongju:7501"));
        assert!(node.is_up && node.networks.contains("shop_between"));
        let mut hidden = described.clone();
        hidden["NetworkSettings"]["Ports"]["7401/tcp"] = Value::Null;
        assert!(Container::of(&hidden).is_none());
        let mut other = described;
        other["Config"]["Env"] = serde_json::json!(["POSTGRES_USER=x"]);
        assert!(Container::of(&other).is_none());
    }
}
