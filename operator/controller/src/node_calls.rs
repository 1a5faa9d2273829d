//! A planned call as the node's API has it.

use multiraft_plan::Call;
use multiraft_proto::v1::node_client::NodeClient;
use tonic::Status;
use tonic::transport::Channel;

/// Makes the call; what the node answers beside "done" it tells by its stream, too.
pub async fn make(client: &mut NodeClient<Channel>, call: &Call) -> Result<(), Status> {
    match call.clone() {
        Call::Bootstrap(request) => client.bootstrap(request).await.map(drop),
        Call::Activate(request) => client.activate(request).await.map(drop),
        Call::AddMember(request) => client.add_member(request).await.map(drop),
        Call::Join(request) => client.join(request).await.map(drop),
        Call::PromoteMember(request) => client.promote_member(request).await.map(drop),
        Call::RemoveMember(request) => client.remove_member(request).await.map(drop),
        Call::TransferLeadership(request) => client.transfer_leadership(request).await.map(drop),
        Call::Drain(request) => client.drain(request).await.map(drop),
        Call::DeleteData(request) => client.delete_data(request).await.map(drop),
        Call::ForceRecover(request) => client.force_recover(request).await.map(drop),
    }
}
