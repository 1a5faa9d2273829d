//! What administrators do to a group, through its log, and what they see of it.
//!
//! Their inputs carry no session. Each brings about a state, so that it may be repeated.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::v1;
use prost::Message;
use prost_types::{Duration, Timestamp};

use crate::answer::{Body, Effect, Output, Query, Rejection, Status};
use crate::calls::Name;
use crate::limits::{LIST_BYTES_MAX, LIST_ITEMS_MAX, NAME_BYTES_MAX, QUOTAS_MAX};
use crate::machine::{Machine, operation_output};
use crate::primitives::{Failure, Slot};
use crate::quotas::Limits;
use crate::session::Session;
use crate::timers::Owner;

/// A list of what is in the machine. The inputs and outputs are the requests and responses of the
/// calls of the same names; the group in them is not looked at.
///
/// The numbers are those of their operations: nodes of other releases know them. Those of primitives
/// begin at 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Sessions = 1,
    Primitives = 2,
    Quotas = 3,
}

impl List {
    fn find(operation: u32) -> Option<Self> {
        let all = [Self::Sessions, Self::Primitives, Self::Quotas];
        all.into_iter().find(|list| *list as u32 == operation)
    }

    /// As a query of no session: it goes the way of the others, also to other nodes.
    pub fn query(self, request: &impl Message) -> Query {
        let (operation, input) = (self as u32, encode(request));
        Query { session_id: 0, primitive_id: 0, operation, input, sequence_num: 0 }
    }
}

impl Machine {
    pub(crate) fn expire_session(
        &mut self,
        v1::ExpireSessionInput { session_id }: v1::ExpireSessionInput,
        effects: &mut Vec<Effect>,
    ) -> Result<Output, Rejection> {
        if let Some(session) = self.sessions.get(&session_id) {
            self.timers.disarm(session.expiry);
            self.end_session(session_id, effects);
        }
        Ok(done())
    }

    /// Takes time in proportion to the sessions, the armed timers and the state of the primitive.
    pub(crate) fn destroy_primitive(
        &mut self,
        v1::DestroyPrimitiveInput { primitive_id }: v1::DestroyPrimitiveInput,
        effects: &mut Vec<Effect>,
    ) -> Result<Output, Rejection> {
        let Some(slot) = self.primitives.remove(&primitive_id) else { return Ok(done()) };
        self.names.remove(&(Arc::clone(&slot.namespace), Arc::clone(&slot.name)));
        self.timers.disarm_all(Owner::Primitive(primitive_id));
        self.quotas.remove_primitive(&slot);
        let attached = self.sessions.iter().filter(|(_, s)| s.attached.contains(&primitive_id));
        let attached: Vec<u64> = attached.map(|(session_id, _)| *session_id).collect();
        for session_id in attached {
            let Some(session) = self.sessions.get_mut(&session_id) else { continue };
            session.attached.remove(&primitive_id);
            self.quotas.detach(&slot.namespace, session_id);
            for (_, open) in session.commands.cancel_all(Some(primitive_id)) {
                self.answer(open.waiter, Err(Rejection::Canceled), effects);
            }
            self.watches.close(session_id, Some(primitive_id), self.index, effects);
        }
        Ok(done())
    }

    pub(crate) fn set_quota(&mut self, input: v1::SetQuotaInput) -> Result<Output, Rejection> {
        let v1::Quota { namespace, primitives, bytes, sessions } = input.quota.unwrap_or_default();
        let limits = Limits { primitives, bytes, sessions };
        if namespace.len() > NAME_BYTES_MAX {
            let message =
                format!("quota.namespace: {} bytes, at most {NAME_BYTES_MAX}", namespace.len());
            return Err(Rejection::Invalid { message });
        }
        if limits.is_empty() {
            self.quotas.remove(&namespace);
            return Ok(done());
        }
        if self.quotas.len() >= QUOTAS_MAX && !self.quotas.contains(&namespace) {
            let message = format!("the group has {QUOTAS_MAX} quotas already: remove one");
            return Ok(operation_output(0, Err(Failure::new(Status::Conflict, message))));
        }
        self.insert_quota(namespace.into(), limits);
        Ok(done())
    }

    /// Takes time in proportion to the primitives of the namespace, and to the sessions with the
    /// primitives that they are attached to.
    fn insert_quota(&mut self, namespace: Arc<str>, limits: Limits) {
        self.quotas.insert(Arc::clone(&namespace), limits);
        let first: Name = (Arc::clone(&namespace), "".into());
        let names = self.names.range(first..).take_while(|(name, _)| name.0 == namespace);
        for (_, primitive_id) in names {
            if let Some(slot) = self.primitives.get(primitive_id) {
                self.quotas.add_primitive(slot);
            }
        }
        for (session_id, session) in &self.sessions {
            for primitive_id in &session.attached {
                let slot = self.primitives.get(primitive_id);
                if slot.is_some_and(|slot| slot.namespace == namespace) {
                    self.quotas.attach(&namespace, *session_id);
                }
            }
        }
    }

    /// Counts again what all quotas are about, when all of it is restored.
    pub(crate) fn restore_quotas(&mut self) {
        let quotas: Vec<_> = self.quotas.iter().map(|(name, l)| (Arc::clone(name), l)).collect();
        for (namespace, limits) in quotas {
            self.insert_quota(namespace, limits);
        }
    }

    /// Answers a query of no session.
    pub(crate) fn inspect(&self, query: &Query) -> Output {
        let input = query.input.clone();
        let result = match List::find(query.operation) {
            Some(List::Sessions) => {
                decode(input).map(|request| encode(&self.list_sessions(request)))
            }
            Some(List::Primitives) => {
                decode(input).map(|request| encode(&self.list_primitives(request)))
            }
            Some(List::Quotas) => decode(input).map(|request| encode(&self.list_quotas(request))),
            None => {
                let message = format!("operation {} is not served here", query.operation);
                Err(Failure::new(Status::NotSupported, message))
            }
        };
        operation_output(0, result.map(Body::Payload))
    }

    fn list_sessions(&self, request: v1::ListSessionsRequest) -> v1::ListSessionsResponse {
        let v1::ListSessionsRequest { group_id: _, after, limit } = request;
        let found = self.sessions.range((Excluded(after), Unbounded));
        let (sessions, more) =
            page(limit, found.map(|(id, session)| self.session_info(*id, session)));
        v1::ListSessionsResponse { sessions, more, index: self.index }
    }

    fn session_info(&self, session_id: u64, session: &Session) -> v1::SessionInfo {
        let Session { timeout_millis, expiry, attached, commands } = session;
        let Duration { seconds, nanos } = duration(expiry.due);
        let remaining = duration(expiry.due.saturating_sub(self.log_time));
        v1::SessionInfo {
            session_id,
            timeout: Some(duration(*timeout_millis)),
            expires: Some(Timestamp { seconds, nanos }),
            unreleased_commands: commands.len() as u32,
            primitives: attached.iter().copied().collect(),
            remaining: Some(remaining),
            open_commands: commands.open_count() as u32,
            bytes: commands.bytes(),
        }
    }

    fn list_primitives(&self, request: v1::ListPrimitivesRequest) -> v1::ListPrimitivesResponse {
        let v1::ListPrimitivesRequest { group_id: _, after, limit } = request;
        let found = self.primitives.range((Excluded(after), Unbounded));
        let (mut primitives, more) = page(limit, found.map(|(id, slot)| primitive_info(*id, slot)));
        self.count_attached(&mut primitives);
        v1::ListPrimitivesResponse { primitives, more, index: self.index }
    }

    /// Sessions know their primitives, not the other way round: one look at all sessions for a page.
    fn count_attached(&self, page: &mut [v1::PrimitiveInfo]) {
        let (Some(first), Some(last)) = (page.first(), page.last()) else { return };
        let ids = first.primitive_id..=last.primitive_id;
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for session in self.sessions.values() {
            for primitive_id in session.attached.range(ids.clone()) {
                *counts.entry(*primitive_id).or_default() += 1;
            }
        }
        for info in page {
            info.sessions = counts.get(&info.primitive_id).copied().unwrap_or(0);
        }
    }

    fn list_quotas(&self, request: v1::GetQuotasRequest) -> v1::GetQuotasResponse {
        let v1::GetQuotasRequest { group_id: _, after, limit } = request;
        let (quotas, more) = page(limit, self.quotas.infos(after.as_deref()));
        v1::GetQuotasResponse { quotas, more, index: self.index }
    }
}

fn primitive_info(primitive_id: u64, slot: &Slot) -> v1::PrimitiveInfo {
    let size = slot.primitive().size();
    let spec = v1::PrimitiveSpec {
        service: slot.service.name().to_owned(),
        namespace: slot.namespace.to_string(),
        name: slot.name.to_string(),
    };
    let (bytes, entries) = (size.bytes, size.entries);
    v1::PrimitiveInfo { primitive_id, spec: Some(spec), sessions: 0, bytes, entries }
}

/// The first of the items, as many as one answer may have, and whether there are more.
fn page<M: Message>(limit: u32, items: impl Iterator<Item = M>) -> (Vec<M>, bool) {
    let limit = if limit == 0 { LIST_ITEMS_MAX } else { LIST_ITEMS_MAX.min(limit as usize) };
    let (mut page, mut bytes) = (Vec::new(), 0);
    for item in items {
        if page.len() >= limit || bytes >= LIST_BYTES_MAX {
            return (page, true);
        }
        bytes += item.encoded_len();
        page.push(item);
    }
    (page, false)
}

/// The output of all inputs here.
fn done() -> Output {
    operation_output(0, Ok(Body::None))
}

fn duration(millis: u64) -> Duration {
    Duration { seconds: (millis / 1_000) as i64, nanos: (millis % 1_000) as i32 * 1_000_000 }
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn decode<M: Message + Default>(input: Bytes) -> Result<M, Failure> {
    M::decode(input).map_err(|_| Failure::invalid("input does not decode"))
}
