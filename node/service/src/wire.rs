//! The two protocols of the client port. Their messages have the same numbers, so one handler reads
//! and writes both; what differs is here.

use crate::envelope::Outcome;
use multiraft_machine::Status as OperationStatus;
use multiraft_proto::rpc::RPCS;
use multiraft_proto::rsm::{self, call_response_headers::Status as RsmStatus};
use multiraft_proto::v1;
use tonic::{Code, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Wire S, `atomix.multiraft`: ours.
    Multiraft,
    /// Wire M, `atomix.protocols.rsm`: today's Atomix clients.
    Rsm,
}

impl Wire {
    /// The wire of a call, and its path from the package's last words on, such as
    /// `counter.v1.Counter/Set`: the same on both.
    pub fn of(path: &str) -> Option<(Wire, &str)> {
        let rsm = path.strip_prefix("/atomix.protocols.rsm.").map(|call| (Wire::Rsm, call));
        rsm.or_else(|| Some((Wire::Multiraft, path.strip_prefix("/atomix.multiraft.")?)))
    }

    fn status(self, status: OperationStatus) -> i32 {
        match (self, status) {
            (Wire::Rsm, OperationStatus::Ok) => RsmStatus::Ok.into(),
            (Wire::Rsm, OperationStatus::Error) => RsmStatus::Error.into(),
            (Wire::Rsm, OperationStatus::Unknown) => RsmStatus::Unknown.into(),
            // The others have the same numbers.
            (_, status) => status.into(),
        }
    }

    /// Every level is present, also when it is empty: clients reach fields through them.
    pub fn operation_response(self, outcome: &Outcome) -> v1::OperationResponseHeaders {
        let partition = v1::PartitionResponseHeaders { index: outcome.index };
        let session = v1::SessionResponseHeaders { partition: Some(partition) };
        v1::OperationResponseHeaders {
            session: Some(v1::PrimitiveResponseHeaders { session: Some(session) }),
            status: self.status(outcome.status),
            message: outcome.message.clone(),
        }
    }

    pub fn command_response(self, outcome: &Outcome) -> v1::CommandResponseHeaders {
        v1::CommandResponseHeaders {
            operation: Some(self.operation_response(outcome)),
            output_sequence_num: outcome.sequence,
        }
    }

    /// A refusal in this wire's codes: clients of wire M know fewer, and try again only on
    /// UNAVAILABLE.
    pub fn refusal(self, status: Status) -> Status {
        match (self, status.code()) {
            (Wire::Rsm, Code::NotFound | Code::ResourceExhausted) => Status::with_metadata(
                Code::Unavailable,
                status.message(),
                status.metadata().clone(),
            ),
            _ => status,
        }
    }
}

/// The primitive that a spec of wire M names. Its type's name and version are the last words of
/// ours; one that we do not have becomes no type, which the machine refuses.
pub fn primitive_spec(spec: rsm::PrimitiveSpec) -> v1::PrimitiveSpec {
    let rsm::PrimitiveType { name: kind, api_version } = spec.r#type.unwrap_or_default();
    let is_named = |service: &&str| {
        let mut words = service.rsplit('.');
        words.next() == Some(&kind) && words.next() == Some(&api_version)
    };
    let service = RPCS.iter().map(|rpc| rpc.primitive).find(is_named).unwrap_or_default();
    let rsm::PrimitiveName { namespace, name } = spec.name.unwrap_or_default();
    v1::PrimitiveSpec { service: service.to_owned(), namespace, name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_wire() {
        let call = "counter.v1.Counter/Set";
        for (path, wire) in [
            ("/atomix.multiraft.counter.v1.Counter/Set", Some((Wire::Multiraft, call))),
            ("/atomix.protocols.rsm.counter.v1.Counter/Set", Some((Wire::Rsm, call))),
            ("/grpc.health.v1.Health/Check", None),
            ("counter.v1.Counter/Set", None),
        ] {
            assert_eq!(Wire::of(path), wire, "{path}");
        }
    }

    /// By name: a status that comes later must be mapped, too.
    #[test]
    fn outcomes_keep_their_names_on_both_wires() {
        for number in 0..=14 {
            let status = OperationStatus::try_from(number).unwrap();
            let on = |wire: Wire| wire.status(status);
            assert_eq!(on(Wire::Multiraft), number);
            let theirs = RsmStatus::try_from(on(Wire::Rsm)).unwrap();
            assert_eq!(theirs.as_str_name(), status.as_str_name());
        }
        assert!(OperationStatus::try_from(15).is_err());
    }

    #[test]
    fn a_type_of_wire_m_is_one_of_ours() {
        let spec = |name: &str, version: &str| rsm::PrimitiveSpec {
            r#type: Some(rsm::PrimitiveType { name: name.into(), api_version: version.into() }),
            name: Some(rsm::PrimitiveName { namespace: "space".into(), name: "name".into() }),
        };
        for kind in [
            "Counter",
            "CounterMap",
            "LeaderElection",
            "IndexedMap",
            "Lock",
            "Map",
            "MultiMap",
            "Set",
            "Value",
        ] {
            let own = primitive_spec(spec(kind, "v1"));
            assert!(own.service.ends_with(&format!(".v1.{kind}")), "{kind}: {own:?}");
            assert_eq!((own.namespace.as_str(), own.name.as_str()), ("space", "name"));
        }
        for (kind, version) in [("", ""), ("Counter", "v2"), ("Counter", ""), ("v1.Map", "map")] {
            assert_eq!(primitive_spec(spec(kind, version)).service, "", "{kind} {version}");
        }
        assert_eq!(primitive_spec(rsm::PrimitiveSpec::default()), v1::PrimitiveSpec::default());
    }

    #[test]
    fn clients_of_wire_m_are_told_to_try_again() {
        let code = |wire: Wire, code| wire.refusal(Status::new(code, "why")).code();
        assert_eq!(code(Wire::Rsm, Code::NotFound), Code::Unavailable);
        assert_eq!(code(Wire::Rsm, Code::ResourceExhausted), Code::Unavailable);
        assert_eq!(code(Wire::Rsm, Code::DataLoss), Code::DataLoss);
        assert_eq!(code(Wire::Multiraft, Code::NotFound), Code::NotFound);
    }
}
