//! What goes over a session stream, as its messages.

use bytes::Bytes;
use multiraft_proto::v1;
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::stream_call::Call;

use crate::session::{Command, Spec};

/// An input of a partition: a session is opened, kept or closed.
pub fn partition(payload: Payload) -> Call {
    Call::Command(v1::PartitionInput { payload: Some(payload) })
}

/// A command of a session.
pub fn command(session_id: u64, sequence_num: u64, command: Command) -> Call {
    let payload = Some(command);
    partition(Payload::SessionInput(v1::SessionInput { session_id, sequence_num, payload }))
}

/// The command that finds or creates a primitive.
pub fn create_primitive(spec: &Spec) -> Command {
    Command::CreateService(v1::CreateServiceInput {
        service: spec.service.into(),
        namespace: spec.namespace.clone(),
        name: spec.name.clone(),
    })
}

/// The command that is an operation of a primitive.
pub fn operation(service_id: u64, operation: u32, payload: Bytes) -> Command {
    Command::ServiceInput(v1::ServiceInput { service_id, operation, payload })
}
