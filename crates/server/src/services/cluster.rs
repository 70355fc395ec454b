//! `sillok.v1.Cluster`: sites, nodes and membership.

use sillok_cluster::Node;
use sillok_wire::v1::{
    AddNodeRequest, GetStatusRequest, GetStatusResponse, InitializeRequest, InitializeResponse, MembershipResponse,
    PromoteNodeRequest, RemoveNodeRequest, ReplaceNodeRequest, TransferLeadershipRequest, WhatIfRequest,
    WhatIfResponse, cluster_server,
};
use tonic::{Request, Response, Status};

/// The service over one node.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) node: Node,
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.node.status().await))
    }

    async fn what_if(&self, _: Request<WhatIfRequest>) -> Result<Response<WhatIfResponse>, Status> {
        Ok(Response::new(self.node.what_if().await))
    }

    async fn initialize(&self, request: Request<InitializeRequest>) -> Result<Response<InitializeResponse>, Status> {
        self.node.initialize(request.into_inner()).await.map(Response::new)
    }

    async fn add_node(&self, request: Request<AddNodeRequest>) -> Result<Response<MembershipResponse>, Status> {
        self.node.add_node(request.into_inner()).await.map(Response::new)
    }

    async fn promote_node(&self, request: Request<PromoteNodeRequest>) -> Result<Response<MembershipResponse>, Status> {
        self.node.promote_node(request.into_inner()).await.map(Response::new)
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<MembershipResponse>, Status> {
        self.node.remove_node(request.into_inner()).await.map(Response::new)
    }

    async fn replace_node(&self, request: Request<ReplaceNodeRequest>) -> Result<Response<MembershipResponse>, Status> {
        self.node.replace_node(request.into_inner()).await.map(Response::new)
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<MembershipResponse>, Status> {
        self.node.transfer_leadership(request.into_inner()).await.map(Response::new)
    }
}
