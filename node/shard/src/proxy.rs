//! Calls of a node that holds no member of the group: they travel to a node that does, which
//! treats the caller as its own and sends the answer back.

use crate::CallError;
use crate::call::no_leader;
use crate::context::Context;
use crate::frame::ItemKind;
use crate::io::List;
use crate::limits::{CALL_MICROS_MAX, CALL_RESEND_MICROS, CALLS_MAX, PROXY_LIST_BYTES_MAX};
use bytes::Bytes;
use multiraft_machine::{Answer, Body, Output, Rejection, Status};
use multiraft_proto::link::{
    Nothing, OperationResult, Proxy, ProxyAnswer, Refusal, operation_result, proxy, proxy_answer,
    refusal,
};
use multiraft_proto::log::Cancel;
use prost::Message as _;
use std::collections::BTreeMap;

/// A call that waits for another node's answer.
#[derive(Debug)]
struct Waiting {
    group: u32,
    origin: u64,
    encoded: Bytes,
    is_query: bool,
    /// A query that is answered by one output after the other.
    streams: bool,
    /// (session, sequence number) to cancel when the caller goes away.
    cancel: Option<(u64, u64)>,
    since: u64,
    sent: u64,
    to: u64,
    /// The other node has it, and says more by itself.
    is_open: bool,
    /// Number of the last output of a command that the caller got.
    delivered: u64,
}

/// Calls of this node's clients for groups that it holds no member of, by call number.
#[derive(Debug, Default)]
pub(crate) struct Proxied {
    calls: BTreeMap<u64, Waiting>,
}

impl Proxied {
    /// Sends a call to `to`, a node that holds the group and is in session, if there is one.
    pub fn call(
        &mut self,
        group: u32,
        proxy: &Proxy,
        cancel: Option<(u64, u64)>,
        to: Option<u64>,
        ctx: &mut Context,
    ) {
        if self.calls.len() >= CALLS_MAX {
            let e = CallError::Overloaded(format!("{CALLS_MAX} calls wait for other nodes"));
            ctx.out.answers.push((proxy.number, Err(e)));
            return;
        }
        let waiting = Waiting {
            group,
            origin: proxy.origin,
            encoded: Bytes::from(proxy.encode_to_vec()),
            is_query: matches!(proxy.call, Some(proxy::Call::Query(_))),
            streams: matches!(&proxy.call, Some(proxy::Call::Query(query)) if query.streams),
            cancel,
            since: ctx.now.micros,
            sent: 0,
            to: 0,
            is_open: false,
            delivered: 0,
        };
        self.calls.insert(proxy.number, waiting);
        self.send(proxy.number, to, ctx);
    }

    fn send(&mut self, number: u64, to: Option<u64>, ctx: &mut Context) {
        let (Some(waiting), Some(to)) = (self.calls.get_mut(&number), to) else { return };
        if ctx.send(to, ItemKind::Proxy, waiting.group, &waiting.encoded) {
            waiting.sent = ctx.now.micros;
            waiting.to = to;
            ctx.counters.forwarded += 1;
        }
    }

    /// The caller went away: the other node is told so.
    pub fn abandon(&mut self, number: u64, keeps: bool, ctx: &mut Context) {
        let Some(waiting) = self.calls.remove(&number) else { return };
        tell_gone(number, &waiting, waiting.cancel.filter(|_| !keeps), ctx);
    }

    pub fn answered(&mut self, answer: ProxyAnswer, ctx: &mut Context) {
        let number = answer.number;
        let Some(waiting) = self.calls.get_mut(&number) else { return };
        if matches!(answer.result, Some(proxy_answer::Result::Waits(_))) {
            waiting.is_open = true;
            return;
        }
        let Some((last, result)) = decode(answer) else { return };
        if !last {
            waiting.is_open = true;
            let sequence = sequence(&result);
            if sequence != 0 && sequence <= waiting.delivered {
                return;
            }
            waiting.delivered = sequence;
        }
        ctx.out.answers.push((number, result));
        if last {
            self.calls.remove(&number);
        }
    }

    /// Sends again what waits for `node`, whose session broke, and what waits too long. A query that
    /// streams cannot go on elsewhere: it ends. Nor is it sent twice: its outputs have no numbers, and
    /// those of two nodes would come mixed.
    pub fn resend(
        &mut self,
        lost: Option<u64>,
        route: impl Fn(u32, &Context) -> Option<u64>,
        ctx: &mut Context,
    ) {
        let now = ctx.now.micros;
        let gone = |w: &Waiting| w.is_open && w.is_query && Some(w.to) == lost;
        let unheard = |w: &Waiting| !w.is_open && now >= w.sent + CALL_RESEND_MICROS;
        let late = |w: &Waiting| {
            let is_lost = w.streams && w.to != 0 && unheard(w);
            is_lost || !w.is_open && now >= w.since + CALL_MICROS_MAX
        };
        let ended: Vec<_> = self.calls.extract_if(.., |_, w| gone(w) || late(w)).collect();
        for (number, waiting) in ended {
            if waiting.streams {
                tell_gone(number, &waiting, None, ctx);
            }
            ctx.out.answers.push((number, Err(no_leader(waiting.group))));
        }
        for waiting in self.calls.values_mut().filter(|w| Some(w.to) == lost) {
            waiting.to = 0;
        }
        // Of a command's stream the outputs that are missing come again.
        let again = |w: &Waiting| w.to == 0 || unheard(w);
        let stale: Vec<_> =
            self.calls.iter().filter(|(_, w)| again(w)).map(|(n, w)| (*n, w.group)).collect();
        for (number, group) in stale {
            let to = route(group, ctx);
            self.send(number, to, ctx);
        }
    }
}

/// Tells the other node that nobody waits for the call; `cancel`: nor will.
fn tell_gone(number: u64, waiting: &Waiting, cancel: Option<(u64, u64)>, ctx: &mut Context) {
    let Waiting { group, origin, to, .. } = *waiting;
    let (session_id, sequence_num) = cancel.unwrap_or_default();
    let call = Some(proxy::Call::Cancel(Cancel { session_id, sequence_num }));
    let gone = Proxy { origin, number, call };
    ctx.send(to, ItemKind::Proxy, group, &gone.encode_to_vec());
}

fn sequence(result: &Result<Answer, CallError>) -> u64 {
    match result {
        Ok(Answer { result: Ok(Output::Operation { sequence, .. }), .. }) => *sequence,
        _ => 0,
    }
}

/// A list in whole: the other node may hold back its client, but not us.
pub(crate) fn send_list(ctx: &mut Context, node: u64, group: u32, number: u64, list: &List) {
    let mut bytes = 0;
    for answer in list.answers() {
        if let Ok(Output::Operation { body: Body::Payload(payload), .. }) = &answer.result {
            bytes += payload.len();
        }
        if bytes > PROXY_LIST_BYTES_MAX {
            let host = &ctx.identity.client_address;
            let reason = format!(
                "group {group}: the list is larger than {} MiB: ask a node that holds the group, \
                 such as {host}, or for less at a time",
                PROXY_LIST_BYTES_MAX >> 20
            );
            return send_answer(ctx, node, group, number, Err(CallError::Overloaded(reason)));
        }
        send_answer(ctx, node, group, number, Ok(answer));
    }
}

pub(crate) fn send_answer(
    ctx: &mut Context,
    node: u64,
    group: u32,
    number: u64,
    result: Result<Answer, CallError>,
) {
    let answer = encode(number, result);
    ctx.send(node, ItemKind::ProxyAnswer, group, &answer.encode_to_vec());
}

pub(crate) fn send_waits(ctx: &mut Context, node: u64, group: u32, number: u64) {
    let result = Some(proxy_answer::Result::Waits(Nothing {}));
    let answer = ProxyAnswer { number, index: 0, result };
    ctx.send(node, ItemKind::ProxyAnswer, group, &answer.encode_to_vec());
}

fn encode(number: u64, result: Result<Answer, CallError>) -> ProxyAnswer {
    use proxy_answer::Result as R;
    let (index, result) = match result {
        Err(CallError::Overloaded(reason)) => (0, R::Overloaded(reason)),
        Err(e) => (0, R::Unavailable(e.to_string())),
        Ok(answer) => (
            answer.index,
            match answer.result {
                Ok(Output::SessionOpened { session_id }) => R::SessionOpened(session_id),
                Ok(Output::SessionKept) => R::SessionKept(Nothing {}),
                Ok(Output::SessionClosed) => R::SessionClosed(Nothing {}),
                Ok(Output::Operation { sequence, status, message, body, last }) => {
                    let body = match body {
                        Body::None => None,
                        Body::PrimitiveCreated { primitive_id } => {
                            Some(operation_result::Body::PrimitiveCreated(primitive_id))
                        }
                        Body::PrimitiveClosed => {
                            Some(operation_result::Body::PrimitiveClosed(Nothing {}))
                        }
                        Body::Payload(bytes) => Some(operation_result::Body::Payload(bytes)),
                    };
                    let status = status as i32;
                    R::Operation(OperationResult { sequence, status, message, last, body })
                }
                Err(rejection) => R::Refusal(encode_rejection(rejection)),
            },
        ),
    };
    ProxyAnswer { number, index, result: Some(result) }
}

fn encode_rejection(rejection: Rejection) -> Refusal {
    let mut refusal = Refusal { message: rejection.to_string(), ..Default::default() };
    let kind = match rejection {
        Rejection::UnknownSession { session_id } => {
            refusal.session_id = session_id;
            refusal::Kind::UnknownSession
        }
        Rejection::Released { session_id, sequence_num } => {
            refusal.session_id = session_id;
            refusal.sequence_num = sequence_num;
            refusal::Kind::Released
        }
        Rejection::Canceled => refusal::Kind::Canceled,
        Rejection::Invalid { .. } => refusal::Kind::Invalid,
        Rejection::TooManySessions => refusal::Kind::TooManySessions,
        Rejection::TooManyCommands => refusal::Kind::TooManyCommands,
    };
    refusal.kind = kind as i32;
    refusal
}

/// (no further answer follows, the answer); `None` for a kind that this release does not know.
fn decode(answer: ProxyAnswer) -> Option<(bool, Result<Answer, CallError>)> {
    use proxy_answer::Result as R;
    let mut is_last = true;
    let result = match answer.result? {
        R::Unavailable(reason) => return Some((true, Err(CallError::Unavailable(reason)))),
        R::Overloaded(reason) => return Some((true, Err(CallError::Overloaded(reason)))),
        R::Waits(_) => return None,
        R::SessionOpened(session_id) => Ok(Output::SessionOpened { session_id }),
        R::SessionKept(_) => Ok(Output::SessionKept),
        R::SessionClosed(_) => Ok(Output::SessionClosed),
        R::Operation(o) => {
            is_last = o.last;
            let body = match o.body {
                None => Body::None,
                Some(operation_result::Body::PrimitiveCreated(primitive_id)) => {
                    Body::PrimitiveCreated { primitive_id }
                }
                Some(operation_result::Body::PrimitiveClosed(_)) => Body::PrimitiveClosed,
                Some(operation_result::Body::Payload(bytes)) => Body::Payload(bytes),
            };
            let status = Status::try_from(o.status).ok()?;
            let (sequence, message, last) = (o.sequence, o.message, o.last);
            Ok(Output::Operation { sequence, status, message, body, last })
        }
        R::Refusal(r) => Err(decode_rejection(r)?),
    };
    Some((is_last, Ok(Answer { index: answer.index, result })))
}

fn decode_rejection(r: Refusal) -> Option<Rejection> {
    Some(match r.kind() {
        refusal::Kind::Unspecified => return None,
        refusal::Kind::UnknownSession => Rejection::UnknownSession { session_id: r.session_id },
        refusal::Kind::Released => {
            Rejection::Released { session_id: r.session_id, sequence_num: r.sequence_num }
        }
        refusal::Kind::Canceled => Rejection::Canceled,
        refusal::Kind::Invalid => Rejection::Invalid { message: r.message },
        refusal::Kind::TooManySessions => Rejection::TooManySessions,
        refusal::Kind::TooManyCommands => Rejection::TooManyCommands,
    })
}
