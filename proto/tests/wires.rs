//! Wire M passes through: what stands on it is on wire S field by field, with the same numbers and
//! types, so that nodes need not decode it. Only the names of headers differ.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use multiraft_proto::DESCRIPTORS;
use multiraft_proto::rpc::RPCS;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

const M: &str = "atomix.protocols.rsm.";
const S: &str = "atomix.multiraft.";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

fn method(pool: &DescriptorPool, service: &str, method: &str) -> MethodDescriptor {
    let service = pool.get_service_by_name(service).unwrap();
    service.methods().find(|m| m.name() == method).unwrap()
}

/// Everything that a decoder goes by: numbers and types of fields, also of messages in messages.
/// Fields that only one wire knows are left out by `common`.
fn shape(message: &MessageDescriptor, common: &MessageDescriptor) -> String {
    let fields = common.fields().filter_map(|f| message.get_field(f.number()));
    fields.map(|f| field_shape(&f, common)).collect::<Vec<_>>().join(",")
}

fn field_shape(field: &FieldDescriptor, common: &MessageDescriptor) -> String {
    let repeated = if field.is_list() || field.is_map() { "repeated " } else { "" };
    let kind = match (field.kind(), common.get_field(field.number()).unwrap().kind()) {
        (Kind::Message(message), Kind::Message(common)) if recursive(&message) => {
            format!("{} like {}", message.name(), common.name())
        }
        (Kind::Message(message), Kind::Message(common)) => {
            format!("{{{}}}", shape(&message, &common))
        }
        (Kind::Enum(_), _) => "enum".to_owned(),
        (kind, _) => format!("{kind:?}"),
    };
    format!("{}={repeated}{kind}", field.number())
}

/// The inputs of a map's transaction hold transactions.
fn recursive(message: &MessageDescriptor) -> bool {
    ["MapInput", "MapOutput"].contains(&message.name())
}

fn assert_same(m: &MessageDescriptor, s: &MessageDescriptor) {
    assert_eq!(shape(m, m), shape(s, m), "{} and {}", m.full_name(), s.full_name());
}

#[test]
fn every_operation_is_on_both_wires_with_the_same_shape() {
    let pool = pool();
    for rpc in RPCS {
        let (service, name) = rpc.path[1..].split_once('/').unwrap();
        let own = method(&pool, service, name);
        let theirs = method(&pool, &service.replace(S, M), name);
        assert_same(&theirs.input(), &own.input());
        assert_same(&theirs.output(), &own.output());
        assert_eq!(theirs.is_server_streaming(), own.is_server_streaming(), "{}", rpc.path);
    }
}

/// CreatePrimitive's input is the only one that a node translates.
#[test]
fn sessions_have_the_same_shape_on_both_wires() {
    let pool = pool();
    let calls = ["OpenSession", "KeepAlive", "CloseSession"].map(|call| ("Partition", call));
    for (service, call) in calls.into_iter().chain([("Session", "ClosePrimitive")]) {
        let [theirs, own] = [M, S].map(|p| method(&pool, &format!("{p}v1.{service}"), call));
        assert_same(&theirs.input(), &own.input());
        assert_same(&theirs.output(), &own.output());
    }
    let [theirs, own] = [M, S].map(|p| method(&pool, &format!("{p}v1.Session"), "CreatePrimitive"));
    assert_same(&theirs.output(), &own.output());
}

#[test]
fn parts_of_transactions_have_the_same_shape_on_both_wires() {
    let pool = pool();
    for message in ["MapInput", "MapOutput"] {
        let [theirs, own] =
            [M, S].map(|p| pool.get_message_by_name(&format!("{p}map.v1.{message}")).unwrap());
        assert_same(&theirs, &own);
    }
}

#[test]
fn another_number_is_another_shape() {
    let pool = pool();
    let [enter, promote] = ["EnterInput", "PromoteInput"]
        .map(|name| pool.get_message_by_name(&format!("{M}election.v1.{name}")).unwrap());
    assert_ne!(shape(&enter, &enter), shape(&promote, &promote));
}

#[test]
fn wire_m_has_no_other_services() {
    let pool = pool();
    let services = pool.services().filter(|s| s.full_name().starts_with(M));
    let present: BTreeSet<_> = services.map(|s| s.full_name().to_owned()).collect();
    let primitives = RPCS.iter().map(|rpc| rpc.path[1..].split_once('/').unwrap().0.replace(S, M));
    let core = ["Partition", "Session"].map(|name| format!("{M}v1.{name}"));
    assert_eq!(present, primitives.chain(core).collect());
}
