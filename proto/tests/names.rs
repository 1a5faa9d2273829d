//! The contract holds every name of the original pages, and operation numbers never change.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use multiraft_proto::DESCRIPTORS;
use multiraft_proto::rpc::{self, Kind, RPCS};
use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};

const PACKAGE: &str = "atomix.multiraft.v1";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

/// Every name of the package, written as a line of names.txt.
fn lines(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let own = |name: &str| name.strip_prefix(PACKAGE)?.strip_prefix('.').map(str::to_owned);
    for message in pool.all_messages() {
        let Some(name) = own(message.full_name()) else { continue };
        lines.insert(format!("message {name}"));
        for field in message.fields() {
            lines.insert(format!("field {name}.{}: {}", field.name(), field_type(&field)));
        }
    }
    for kind in pool.all_enums() {
        let Some(name) = own(kind.full_name()) else { continue };
        lines.insert(format!("enum {name}"));
        for value in kind.values() {
            lines.insert(format!("value {name}.{} = {}", value.name(), value.number()));
        }
    }
    for service in pool.services() {
        let Some(name) = own(service.full_name()) else { continue };
        lines.insert(format!("service {name}"));
        for method in service.methods() {
            lines.insert(format!("method {name}.{}: {}", method.name(), method_type(&method)));
        }
    }
    lines
}

fn field_type(field: &FieldDescriptor) -> String {
    let kind = format!("{:?}", field.kind());
    let name = match field.kind() {
        prost_reflect::Kind::Message(message) => short(message.full_name()),
        prost_reflect::Kind::Enum(kind) => short(kind.full_name()),
        _ => kind.to_lowercase(),
    };
    if field.is_list() || field.is_map() { format!("repeated {name}") } else { name }
}

fn method_type(method: &MethodDescriptor) -> String {
    let stream = |is_stream: bool| if is_stream { "stream " } else { "" };
    format!(
        "{}{} -> {}{}",
        stream(method.is_client_streaming()),
        short(method.input().full_name()),
        stream(method.is_server_streaming()),
        short(method.output().full_name()),
    )
}

fn short(name: &str) -> String {
    name.strip_prefix("atomix.multiraft.v1.").unwrap_or(name).to_owned()
}

#[test]
fn every_name_of_the_five_pages_is_in_the_contract() {
    let present = lines(&pool());
    let names = include_str!("names.txt");
    let wanted: Vec<_> = names.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    assert!(wanted.len() > 200, "names.txt is cut short: {} names", wanted.len());
    let missing: Vec<_> = wanted.into_iter().filter(|line| !present.contains(*line)).collect();
    assert!(missing.is_empty(), "not in the contract:\n{}", missing.join("\n"));
}

#[test]
fn a_name_with_another_type_is_not_found() {
    let present = lines(&pool());
    assert!(present.contains("field LeaderUpdatedEvent.term: uint64"));
    assert!(!present.contains("field LeaderUpdatedEvent.term: uint32"));
    assert!(!present.contains("value OperationResponseHeaders.Status.OK = 0"));
}

#[test]
fn operation_numbers_never_change() {
    let row = |r: &rpc::Rpc| {
        let kind = match r.kind {
            Kind::Command => "command",
            Kind::Query => "query",
        };
        let answer = if r.streaming { "stream" } else { "unary" };
        format!("{} {} {} {kind} {answer} {}", r.primitive, r.operation, r.method, r.path)
    };
    let table: Vec<_> = RPCS.iter().map(row).collect();
    let golden = include_str!("operations.txt").lines().filter(|l| !l.starts_with('#'));
    assert_eq!(table, golden.collect::<Vec<_>>());
}

#[test]
fn an_operation_is_named_once() {
    let numbers: BTreeSet<_> = RPCS.iter().map(|r| r.operation).collect();
    let paths: BTreeSet<_> = RPCS.iter().map(|r| r.path).collect();
    assert_eq!((numbers.len(), paths.len()), (RPCS.len(), RPCS.len()));
    assert!(RPCS.iter().all(|r| r.operation > 0));
}

#[test]
fn constants_agree_with_the_table() {
    let find = |path| RPCS.iter().find(|r| r.path == path).unwrap();
    let increment = find("/atomix.multiraft.counter.v1.Counter/Increment");
    assert_eq!(
        (increment.primitive, increment.operation),
        (rpc::counter::TYPE, rpc::counter::INCREMENT)
    );
    let first = find("/atomix.multiraft.indexedmap.v1.IndexedMap/FirstEntry");
    assert_eq!(
        (first.primitive, first.operation),
        (rpc::indexedmap::TYPE, rpc::indexedmap::FIRST_ENTRY)
    );
    let put = find("/atomix.multiraft.map.v1.Map/Put");
    assert_eq!((put.primitive, put.operation), (rpc::map::TYPE, rpc::map::PUT));
}

/// Every primitive service of the contract is in the table with all its methods.
#[test]
fn the_table_is_complete() {
    let pool = pool();
    let own = |package: &str| package.starts_with("atomix.multiraft.") && package != PACKAGE;
    let primitives = pool.services().filter(|s| own(s.package_name()));
    let methods: BTreeSet<_> = primitives
        .flat_map(|s| {
            s.methods().map(|m| format!("/{}/{}", s.full_name(), m.name())).collect::<Vec<_>>()
        })
        .collect();
    let table: BTreeSet<_> = RPCS.iter().map(|r| r.path.to_owned()).collect();
    assert_eq!(methods, table);
}
