//! Which nodes to ask: named on the command line or in the environment, else the local dev cluster, else the usual ports.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where `sillok dev` keeps its data, below the working directory.
pub(crate) const DEV_DIR: &str = "sillok-data";
/// What `sillok dev` writes there for the other commands.
pub(crate) const DEV_FILE: &str = "endpoints.json";

/// The sites of a dev cluster and their ports; they are kept so that a second start uses the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevEndpoints {
    /// For a program that only wants to connect.
    pub(crate) endpoints: Vec<String>,
    /// One for each node.
    pub(crate) sites: Vec<DevSite>,
}

/// One node of a dev cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevSite {
    pub(crate) id: u64,
    pub(crate) site: String,
    /// host:port of the client API.
    pub(crate) client: String,
    /// host:port for other nodes.
    pub(crate) peer: String,
    /// host:port of metrics and health.
    pub(crate) http: String,
}

/// Whom to ask when the command line and the environment name nobody.
pub(crate) fn default_endpoints(named: &[String]) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return checked(named);
    }
    let path = Path::new(DEV_DIR).join(DEV_FILE);
    if let Some(dev) = read(&path)? {
        return checked(&dev.endpoints);
    }
    Ok(["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"].map(str::to_owned).to_vec())
}

/// The file of a dev cluster; `None` where there is none.
pub(crate) fn read(path: &PathBuf) -> Result<Option<DevEndpoints>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file(path, "read", &error)),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Failure::usage(format!("{} is damaged ({error}); start `sillok dev` again", path.display())))
}

/// Every address refuses a connection at once: the cluster is not running, and waiting would only puzzle a person.
pub(crate) fn nobody_listens(endpoints: &[String]) -> bool {
    endpoints.iter().all(|endpoint| {
        let Ok(mut addresses) = endpoint.to_socket_addrs() else { return false };
        addresses.all(|address| {
            let tried = TcpStream::connect_timeout(&address, Duration::from_millis(200));
            tried.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    })
}

fn checked(endpoints: &[String]) -> Result<Vec<String>, Failure> {
    let mut out: Vec<String> = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let bare = endpoint.trim().trim_start_matches("http://").trim_end_matches('/');
        if bare.is_empty() {
            continue;
        }
        match bare.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                if !out.iter().any(|known| known == bare) {
                    out.push(bare.to_owned());
                }
            }
            _ => return Err(Failure::usage(format!("endpoint {endpoint:?} is not HOST:PORT, such as 127.0.0.1:7401"))),
        }
    }
    if out.is_empty() {
        return Err(Failure::usage("no endpoint is given; --endpoints takes HOST:PORT[,HOST:PORT…]"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_refuses_is_told_from_one_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().to_string();
        assert!(!nobody_listens(std::slice::from_ref(&here)));
        drop(listener);
        assert!(nobody_listens(&[here]));
    }

    #[test]
    fn endpoints_are_host_and_port() {
        let named = ["http://127.0.0.1:7401/", "node.example:7402", "127.0.0.1:7401", " [::1]:7403"].map(str::to_owned);
        assert_eq!(checked(&named).unwrap(), ["127.0.0.1:7401", "node.example:7402", "[::1]:7403"]);
        for wrong in ["127.0.0.1", "host:", ":7401", "host:99999", ""] {
            assert!(checked(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
