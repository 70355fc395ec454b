//! The gRPC services, configuration, health, metrics and shutdown of one node.
//!
//! [`NodeConfig::load`] reads what the node is told, [`run`] builds the runtime and lives until the node is asked to stop or
//! must stop, and says how as an [`ExitCode`]. [`Server`] is the same node inside another program, such as a test;
//! [`serve_clients`] is its client port alone, over connections of the caller's.
//!
//! A call walks `client_port → grpc::front → services::{commands, submit, queries, cluster} → sillok_cluster::Node`; `server`
//! is the order of starting and stopping, `run` the process around it, `http` what machines watch.

mod client_port;
mod config;
mod exit;
mod grpc;
mod http;
mod logging;
mod metrics;
mod options;
mod run;
mod server;
mod services;
mod standstill;

pub use client_port::serve_clients;
pub use config::{
    AdvertiseSection, ChronicleSection, ClusterSection, ConfigError, ConfigProblem, Flags, InitialSection,
    LimitsSection, ListenSection, LogFormat, LogSection, NodeConfig, NodeSection, RaftSection, RuntimeSection,
    ViewsSection,
};
pub use exit::ExitCode;
pub use logging::init_logging;
pub use options::Machine;
pub use run::{run, run_on, run_until_stopped, runtime};
pub use server::{ServeError, Server};
