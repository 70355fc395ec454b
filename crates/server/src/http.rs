//! The port for machines that watch over the node: `/metrics` for Prometheus, `/health` for supervisors.
//!
//! | path | 200 | 503 |
//! |---|---|---|
//! | `/health/live` | always, while the process answers | |
//! | `/health` | while the process is of any use | it repairs its chronicle, or stands still for damage |
//! | `/health/ready` | stale reads are answered | opening, repairing, stopping, standing still, or the views have stopped |
//! | `/health/leader` | a leader is confirmed: writes are taken | otherwise |
//!
//! All four answer the same JSON, in which `trouble` says why the node stands still, or what it repairs. None of them asks another node.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::services::health::Serving;

/// What the pages tell.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) node_id: u64,
    pub(crate) site: Arc<str>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) serving: watch::Receiver<Serving>,
    /// Why the node stands still, or what it repairs.
    pub(crate) trouble: watch::Receiver<Option<Arc<str>>>,
}

/// Serves the pages until `closed`.
pub(crate) async fn serve(listener: TcpListener, pages: Pages, closed: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(useful))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/leader", get(leader))
        .with_state(pages);
    axum::serve(listener, router).with_graceful_shutdown(closed.cancelled_owned()).await
}

async fn metrics(State(pages): State<Pages>) -> Response {
    crate::metrics::process();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], pages.metrics.render()).into_response()
}

async fn useful(State(pages): State<Pages>) -> Response {
    let is_of_use = pages.trouble.borrow().is_none();
    health(&pages, is_of_use)
}

async fn live(State(pages): State<Pages>) -> Response {
    health(&pages, true)
}

async fn ready(State(pages): State<Pages>) -> Response {
    let ready = pages.serving.borrow().reads;
    health(&pages, ready)
}

async fn leader(State(pages): State<Pages>) -> Response {
    let confirmed = pages.serving.borrow().writes;
    health(&pages, confirmed)
}

fn health(pages: &Pages, ok: bool) -> Response {
    let serving = *pages.serving.borrow();
    let body = json!({
        "node_id": pages.node_id,
        "site": &*pages.site,
        "version": env!("CARGO_PKG_VERSION"),
        "live": true,
        "reads": serving.reads,
        "writes": serving.writes,
        "stopping": serving.stopping,
        "trouble": pages.trouble.borrow().as_deref(),
    });
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string() + "\n").into_response()
}

/// Histograms hold on to every sample until somebody reads them, or this runs.
pub(crate) async fn keep_metrics(metrics: PrometheusHandle, closed: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            _ = every.tick() => metrics.run_upkeep(),
        }
    }
}
