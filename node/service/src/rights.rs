//! Which role may make which call. What stands in no row nobody may call who was asked for a
//! certificate.

use crate::principal::Principal;
use crate::wire::Wire;
use multiraft_proto::rpc::{Kind, RPCS, Rpc};
use multiraft_tls::Role;
use std::collections::HashMap;
use std::sync::LazyLock;
use tonic::Status;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// A certificate of a trusted CA.
    Connect,
    /// To see nodes, groups and their leaders: every client finds its way by them.
    Observe,
    /// To read and listen, with a session.
    Read,
    /// To change primitives.
    Write,
    /// To see and end what others have: sessions, primitives, quotas.
    Manage,
    /// To change nodes, groups and members.
    Operate,
}

impl Right {
    /// The roles that have it.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Right::Connect => &Role::ALL,
            Right::Observe => &[Role::Reader, Role::Writer, Role::Admin, Role::Operator],
            Right::Read => &[Role::Reader, Role::Writer, Role::Admin],
            Right::Write => &[Role::Writer, Role::Admin],
            Right::Manage => &[Role::Admin],
            Right::Operate => &[Role::Admin, Role::Operator],
        }
    }
}

/// Every call that is no operation of a primitive. Whoever reads a primitive finds it by
/// `CreatePrimitive`, which makes an empty one when there is none.
const CALLS: &[(&str, Right)] = &[
    ("/atomix.multiraft.v1.Node/GetInfo", Right::Observe),
    ("/atomix.multiraft.v1.Node/GetConfig", Right::Observe),
    ("/atomix.multiraft.v1.Node/Watch", Right::Observe),
    ("/atomix.multiraft.v1.Node/CheckDisruption", Right::Observe),
    ("/atomix.multiraft.v1.Node/Bootstrap", Right::Operate),
    ("/atomix.multiraft.v1.Node/Join", Right::Operate),
    ("/atomix.multiraft.v1.Node/Leave", Right::Operate),
    ("/atomix.multiraft.v1.Node/AddMember", Right::Operate),
    ("/atomix.multiraft.v1.Node/PromoteMember", Right::Operate),
    ("/atomix.multiraft.v1.Node/RemoveMember", Right::Operate),
    ("/atomix.multiraft.v1.Node/TransferLeadership", Right::Operate),
    ("/atomix.multiraft.v1.Node/Drain", Right::Operate),
    ("/atomix.multiraft.v1.Node/Activate", Right::Operate),
    ("/atomix.multiraft.v1.Node/DeleteData", Right::Operate),
    ("/atomix.multiraft.v1.Node/ForceRecover", Right::Operate),
    ("/atomix.multiraft.v1.Node/ListSessions", Right::Manage),
    ("/atomix.multiraft.v1.Node/ExpireSession", Right::Manage),
    ("/atomix.multiraft.v1.Node/ListPrimitives", Right::Manage),
    ("/atomix.multiraft.v1.Node/DestroyPrimitive", Right::Manage),
    ("/atomix.multiraft.v1.Node/SetQuota", Right::Manage),
    ("/atomix.multiraft.v1.Node/GetQuotas", Right::Manage),
    ("/atomix.multiraft.v1.Partition/OpenSession", Right::Read),
    ("/atomix.multiraft.v1.Partition/KeepAlive", Right::Read),
    ("/atomix.multiraft.v1.Partition/CloseSession", Right::Read),
    ("/atomix.multiraft.v1.Partition/Watch", Right::Observe),
    ("/atomix.multiraft.v1.Session/CreatePrimitive", Right::Read),
    ("/atomix.multiraft.v1.Session/ClosePrimitive", Right::Read),
    // Each call on it is judged by itself.
    ("/atomix.multiraft.v1.SessionStream/OpenStream", Right::Read),
    ("/atomix.protocols.rsm.v1.Partition/OpenSession", Right::Read),
    ("/atomix.protocols.rsm.v1.Partition/KeepAlive", Right::Read),
    ("/atomix.protocols.rsm.v1.Partition/CloseSession", Right::Read),
    ("/atomix.protocols.rsm.v1.Session/CreatePrimitive", Right::Read),
    ("/atomix.protocols.rsm.v1.Session/ClosePrimitive", Right::Read),
    ("/grpc.health.v1.Health/Check", Right::Connect),
    ("/grpc.health.v1.Health/Watch", Right::Connect),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Right::Observe),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Right::Observe),
];

static BY_PATH: LazyLock<HashMap<&str, Right>> = LazyLock::new(|| CALLS.iter().copied().collect());

/// Operations by their path behind the wire's name.
static OPERATIONS: LazyLock<HashMap<&str, &Rpc>> =
    LazyLock::new(|| RPCS.iter().filter_map(|rpc| Some((Wire::of(rpc.path)?.1, rpc))).collect());

/// What an operation needs. Commands with a stream of answers only listen.
pub fn of_operation(rpc: &Rpc) -> Right {
    match rpc.kind {
        Kind::Command if !rpc.streaming => Right::Write,
        Kind::Command | Kind::Query => Right::Read,
    }
}

/// What a call needs, by its path; `None`: it has no row.
pub fn of_path(path: &str) -> Option<Right> {
    let row = BY_PATH.get(path).copied();
    row.or_else(|| Some(of_operation(OPERATIONS.get(Wire::of(path)?.1)?)))
}

impl Principal {
    /// Whether it may make a call, by its path.
    pub fn may_call(&self, path: &str) -> Result<(), Status> {
        match self {
            Principal::Anonymous => Ok(()),
            _ => self.check(of_path(path), path),
        }
    }

    /// Whether it may carry out an operation of a primitive.
    pub fn may_operate(&self, rpc: &Rpc) -> Result<(), Status> {
        match self {
            Principal::Anonymous => Ok(()),
            _ => self.check(Some(of_operation(rpc)), rpc.path),
        }
    }

    fn check(&self, right: Option<Right>, path: &str) -> Result<(), Status> {
        let roles = right.map_or(&[][..], Right::roles);
        let allowed = match self {
            Principal::Anonymous => true,
            Principal::Named(identity) => roles.contains(&identity.role),
            Principal::Stranger => right == Some(Right::Connect),
        };
        if allowed {
            return Ok(());
        }
        let call = path.trim_start_matches('/');
        let who = match self {
            Principal::Named(identity) => identity.to_string(),
            _ => "a caller whose certificate names nobody in this cluster (it needs one URI \
                  multiraft://<cluster>/<role>/<name>)"
                .into(),
        };
        let roles: Vec<_> = roles.iter().map(|role| role.name()).collect();
        let needed = match roles.is_empty() {
            true => "nobody".into(),
            false => format!("role {}", roles.join(" or ")),
        };
        let message = format!("{call} is for {needed}, and this is {who}");
        Err(Status::permission_denied(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiraft_tls::Identity;
    use prost::Message as _;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    fn named(role: Role) -> Principal {
        let (cluster, name) = ("orders".into(), "shop".into());
        Principal::Named(Arc::new(Identity { cluster, role, name }))
    }

    /// Paths of all calls that any descriptor of ours has, and of health and reflection.
    fn described() -> BTreeSet<String> {
        let sets = [multiraft_proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let mut paths = BTreeSet::new();
        for set in sets {
            let set = prost_types::FileDescriptorSet::decode(set).unwrap();
            for file in set.file {
                for service in &file.service {
                    let methods = service.method.iter();
                    paths.extend(methods.map(|method| {
                        format!("/{}.{}/{}", file.package(), service.name(), method.name())
                    }));
                }
            }
        }
        for version in ["v1", "v1alpha"] {
            paths.insert(format!(
                "/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            ));
        }
        paths
    }

    /// Who may make the call, as letters: reader, writer, admin, operator, node, stranger.
    fn allowed(path: &str) -> String {
        let roles = Role::ALL.into_iter().map(|role| (named(role), role.name()));
        let all = roles.chain([(Principal::Stranger, "stranger")]);
        let may = all.filter(|(who, _)| who.may_call(path).is_ok());
        may.map(|(_, name)| &name[..1]).collect()
    }

    #[test]
    fn every_call_of_both_wires_has_a_row_and_no_row_is_of_no_call() {
        let described = described();
        assert!(described.len() > 180, "only {} calls", described.len());
        for path in &described {
            assert!(of_path(path).is_some(), "{path} has no row: say who may call it");
        }
        for (path, _) in CALLS {
            assert!(described.contains(*path), "{path} is no call");
        }
    }

    /// The whole table once more, by what is to be so rather than how it is made so.
    #[test]
    fn every_role_may_make_its_calls_and_no_other() {
        let mut counts = BTreeMap::<String, usize>::new();
        for path in described() {
            let (service, method) = path.rsplit_once('/').expect("a path");
            let reads = [
                "Get", "Size", "Entries", "Elements", "Events", "Watch", "Contains", "First",
                "Last", "Prev", "Next",
            ];
            let expected = match service {
                "/atomix.multiraft.v1.Node" => match method {
                    "GetInfo" | "GetConfig" | "Watch" | "CheckDisruption" => "rwao",
                    "ListSessions" | "ExpireSession" | "ListPrimitives" | "DestroyPrimitive"
                    | "SetQuota" | "GetQuotas" => "a",
                    _ => "ao",
                },
                "/atomix.multiraft.v1.Partition" if method == "Watch" => "rwao",
                "/atomix.multiraft.v1.Partition"
                | "/atomix.multiraft.v1.Session"
                | "/atomix.multiraft.v1.SessionStream"
                | "/atomix.protocols.rsm.v1.Partition"
                | "/atomix.protocols.rsm.v1.Session" => "rwa",
                "/grpc.health.v1.Health" => "rwaons",
                _ if service.starts_with("/grpc.reflection") => "rwao",
                _ if reads.iter().any(|word| method.starts_with(word)) => "rwa",
                _ => "wa",
            };
            assert_eq!(allowed(&path), expected, "{path}");
            *counts.entry(expected.into()).or_default() += 1;
        }
        assert!(counts["wa"] > 60 && counts["rwa"] > 60, "{counts:?}");
    }

    #[test]
    fn what_has_no_row_is_for_nobody_who_was_asked() {
        let path = "/atomix.multiraft.v1.Node/Later";
        assert_eq!(allowed(path), "");
        assert_eq!(allowed("/"), "");
        Principal::Anonymous.may_call(path).unwrap();
    }

    #[test]
    fn a_refusal_names_call_caller_and_roles() {
        let refusal = named(Role::Reader).may_call("/atomix.multiraft.map.v1.Map/Put").unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::PermissionDenied);
        assert_eq!(
            refusal.message(),
            "atomix.multiraft.map.v1.Map/Put is for role writer or admin, and this is \
             multiraft://orders/reader/shop"
        );
        let refusal = Principal::Stranger.may_call("/atomix.multiraft.v1.Node/GetInfo");
        assert!(refusal.unwrap_err().message().contains("multiraft://<cluster>/<role>/<name>"));
    }
}
