//! openraft's own storage suite against the chronicle, on real files.

use std::{io, sync::Arc};

use futures::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, RaftSnapshotBuilder, StorageError,
    alias::{SnapshotMetaOf, SnapshotOf},
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};
use parking_lot::Mutex;
use sillok_chronicle::{Chronicle, Identity, RealDisk};
use tempfile::TempDir;

use crate::{
    acks::Acks,
    chain::Chain,
    execution::Execution,
    failure::FailureSink,
    log_store::LogStore,
    roster::Roster,
    types::{Applied, RaftLogId, StoredMembership, TypeConfig},
};

/// The suite applies entries that no log holds and asks for snapshots, which the commit pointer rightly refuses; what is
/// tested here is the log.
#[derive(Default, Clone)]
struct AnythingApplies {
    applied: Option<RaftLogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<SnapshotMetaOf<TypeConfig>>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for AnythingApplies {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let meta = SnapshotMetaOf::<TypeConfig> { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.snapshot.lock() = Some(meta.clone());
        Ok(SnapshotOf::<TypeConfig, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for AnythingApplies {
    type SnapshotData = ();
    type SnapshotBuilder = AnythingApplies;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Applied::NotARecord);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> AnythingApplies {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, _snapshot: ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        Ok(self.snapshot.lock().clone().map(|meta| SnapshotOf::<TypeConfig, ()> { meta, snapshot: () }))
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, AnythingApplies, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, AnythingApplies), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("chronicle");
        let identity = Identity { node_id: 1, incarnation: 7, site: "chungju".into(), cluster_id: None };
        let disk: Arc<dyn sillok_chronicle::Disk> = Arc::new(RealDisk);
        sillok_chronicle::format(&disk, &at, &identity).unwrap();
        let mut options = sillok_chronicle::Options::new(at);
        options.segment_bytes = 1 << 20;
        let chronicle = Chronicle::open(options).unwrap();
        let chain = Arc::new(Chain::load(chronicle.clone()).unwrap());
        let roster = Roster::new(tokio::sync::watch::channel(Arc::default()).1);
        let acks = Arc::new(Acks::new(1, None, roster));
        let store =
            LogStore::new(chronicle, chain, acks, FailureSink::new(), 1 << 20, Execution::Threads, Arc::default())
                .with_floor();
        Ok((dir, store, AnythingApplies::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes_against_the_chronicle() {
    Suite::test_all(Builder).await.unwrap();
}
