//! A node that must not serve and that starting again will not mend: the process stays, so that a supervisor that restarts
//! whatever ends does not do so for ever, and says why to whoever looks.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{config::NodeConfig, http, metrics, server::listen, services::health::Serving};

/// Answers the health pages with 503 and the reason until `asked` to stop. The client port and the peer port are closed, so
/// that clients and the other nodes go elsewhere at once. Where the http port cannot be had the process stays all the same.
pub(crate) async fn until(config: &NodeConfig, why: &str, asked: impl Future<Output = &'static str>) {
    tracing::error!("standing still, serving nothing: {why}; `sillok verify` says more, and operating.md what to do");
    let closed = CancellationToken::new();
    let serving = watch::Sender::new(Serving::default());
    let trouble = watch::Sender::new(Some(why.into()));
    let pages = http::Pages {
        node_id: config.node.id,
        site: config.node.site.as_str().into(),
        metrics: metrics::install(),
        serving: serving.subscribe(),
        trouble: trouble.subscribe(),
    };
    let serve = async {
        let served = match listen("listen.http", config.listen.http).await {
            Ok((_, listener)) => http::serve(listener, pages, closed.clone()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!("health pages are not served: {error}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        why = asked => tracing::info!(why, "stopping"),
        () = serve => {}
    }
    closed.cancel();
}
