//! PostgreSQL: one prepared `INSERT` of one row a transaction. A connection commits one transaction after the other, so
//! there are as many connections as writes in flight.

use anyhow::{Context as _, bail};
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::{Options, measure::Writer};

pub(crate) struct Insert {
    client: Client,
    statement: Statement,
    payload: Vec<u8>,
}

async fn connect(options: &Options) -> anyhow::Result<Client> {
    let primary = options.endpoints.first().context("no endpoint")?;
    let (host, port) = primary.rsplit_once(':').context("an endpoint is host:port")?;
    let mut config = Config::new();
    config.host(host).port(port.parse()?).user("bench").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client; a failure shows in the client's calls.
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the table where there is none, and names the primary; fails while its commits do not wait for one of two
/// standbys.
pub(crate) async fn prepare(options: &Options) -> anyhow::Result<String> {
    let client = connect(options).await?;
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)")
        .await?;
    let standbys: i64 =
        client.query_one("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'", &[]).await?.get(0);
    for (setting, wanted) in [("synchronous_commit", "on"), ("fsync", "on")] {
        let is: String = client.query_one(&format!("SHOW {setting}"), &[]).await?.get(0);
        if is != wanted {
            bail!("{setting} is {is}");
        }
    }
    if standbys != 2 {
        bail!("{standbys} of 2 standbys take part in the quorum");
    }
    options.endpoints.first().cloned().context("no endpoint")
}

pub(crate) async fn writers(options: &Options) -> anyhow::Result<Vec<Insert>> {
    let mut writers = Vec::new();
    for _ in 0..options.in_flight {
        let client = connect(options).await?;
        let statement = client.prepare("INSERT INTO events (payload) VALUES ($1)").await?;
        writers.push(Insert { client, statement, payload: vec![b'x'; options.size] });
    }
    Ok(writers)
}

impl Writer for Insert {
    async fn write(&mut self) -> anyhow::Result<()> {
        self.client.execute(&self.statement, &[&self.payload]).await?;
        Ok(())
    }
}
