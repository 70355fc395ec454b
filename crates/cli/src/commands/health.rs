//! `sillok health`: one node, one answer, one exit code. For health checks of containers and supervisors.

use clap::Args;
use tonic::transport::Endpoint;

use crate::{
    args::Global,
    failure::{Exit, Failure},
    output::Out,
};

#[derive(Args)]
pub(crate) struct HealthArgs {
    /// The node's client address; default: the first of --endpoints, else 127.0.0.1:7401
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Also ask whether a leader is confirmed, so that writes are taken
    #[arg(long)]
    writes: bool,
}

pub(crate) async fn run(args: HealthArgs, global: &Global, out: Out) -> Result<(), Failure> {
    let endpoint =
        args.endpoint.or_else(|| global.endpoints.first().cloned()).unwrap_or_else(|| "127.0.0.1:7401".to_owned());
    let service = if args.writes { "sillok.v1.Commands" } else { "" };
    let dark = |why: String| Failure::new(Exit::Unavailable, format!("{endpoint} does not serve: {why}"));
    let channel = Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(|error| Failure::usage(format!("endpoint {endpoint}: {error}")))?
        .connect_timeout(global.timeout())
        .timeout(global.timeout())
        .connect()
        .await
        .map_err(|_| dark("nobody answers there".to_owned()))?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
    let answer = health.check(request).await.map_err(|status| dark(status.message().to_owned()))?.into_inner();
    match answer.status() {
        tonic_health::pb::health_check_response::ServingStatus::Serving => {
            let what = if args.writes { "writes and reads" } else { "reads" };
            out.answer_text(&format!("{endpoint} serves {what}"), serde_json::json!({ "serving": true }))
        }
        _ if args.writes => Err(dark("no leader is confirmed".to_owned())),
        _ => Err(dark("it says so itself".to_owned())),
    }
}
