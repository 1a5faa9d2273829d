//! What is in the groups: sessions, primitives, and the quotas of namespaces.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use multiraft_client::v1;
use prost::Message;
use serde_json::{Value, json};

use crate::actions::Limits;
use crate::arguments::Reach;
use crate::changes::Asker;
use crate::report::{Failure, Report};
use crate::survey::Survey;
use crate::table::{Table, bytes};

/// Groups that are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// The cluster as it was found, and how to ask it.
struct Groups<'a> {
    asker: Asker<'a>,
    survey: Survey,
}

impl<'a> Groups<'a> {
    async fn find(reach: &'a Reach) -> Result<Self, Failure> {
        Ok(Self { asker: Asker::new(reach), survey: Survey::take(reach).await? })
    }

    /// All groups, or the one that is meant.
    fn ids(&self, only: Option<u32>) -> Result<Vec<u32>, Failure> {
        match only {
            Some(group) => self.survey.group(group).map(|_| vec![group]),
            None => Ok(self.survey.groups().into_keys().collect()),
        }
    }

    async fn ask<Q, R>(&self, group: u32, path: &'static str, request: Q) -> Result<R, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.asker.holder(&self.survey, group, path, &request).await
    }

    /// What each group lists, page by page: `request` asks for what comes after the last one, `page`
    /// takes an answer apart (its items, whether there are more).
    async fn list<Q, R, T>(
        &self,
        only: Option<u32>,
        path: &'static str,
        request: impl Fn(u32, Option<&T>) -> Q,
        page: impl Fn(R) -> (Vec<T>, bool),
    ) -> Result<Vec<(u32, Vec<T>)>, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let (request, page) = (&request, &page);
        let lists = self.ids(only)?.into_iter().map(|group| async move {
            let mut all: Vec<T> = Vec::new();
            loop {
                let answer = self.ask(group, path, request(group, all.last())).await?;
                let (items, more) = page(answer);
                let more = more && !items.is_empty();
                all.extend(items);
                if !more {
                    return Ok((group, all));
                }
            }
        });
        stream::iter(lists).buffered(ASKED_AT_ONCE).try_collect().await
    }

    async fn primitives(
        &self,
        only: Option<u32>,
    ) -> Result<Vec<(u32, Vec<v1::PrimitiveInfo>)>, Failure> {
        let request = |group_id, last: Option<&v1::PrimitiveInfo>| {
            let after = last.map_or(0, |last| last.primitive_id);
            v1::ListPrimitivesRequest { group_id, after, limit: 0 }
        };
        let page = |page: v1::ListPrimitivesResponse| (page.primitives, page.more);
        self.list(only, "/atomix.multiraft.v1.Node/ListPrimitives", request, page).await
    }
}

pub async fn sessions(reach: &Reach, only: Option<u32>) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let request = |group_id, last: Option<&v1::SessionInfo>| {
        let after = last.map_or(0, |last| last.session_id);
        v1::ListSessionsRequest { group_id, after, limit: 0 }
    };
    let page = |page: v1::ListSessionsResponse| (page.sessions, page.more);
    let path = "/atomix.multiraft.v1.Node/ListSessions";
    let lists = groups.list(only, path, request, page).await?;
    let mut table =
        Table::new(["GROUP", "SESSION", "TIMEOUT", "LEFT", "PRIMITIVES", "OPEN", "KEPT", "BYTES"]);
    let mut json = Vec::new();
    for (group, session) in
        lists.iter().flat_map(|(group, list)| list.iter().map(move |s| (group, s)))
    {
        let [timeout, left] = [&session.timeout, &session.remaining].map(|d| seconds(d.as_ref()));
        table.row([
            group.to_string(),
            session.session_id.to_string(),
            format!("{timeout:.0} s"),
            format!("{left:.0} s"),
            session.primitives.len().to_string(),
            session.open_commands.to_string(),
            session.unreleased_commands.to_string(),
            bytes(session.bytes),
        ]);
        json.push(json!({
            "group": group, "session": session.session_id, "timeout_seconds": timeout,
            "remaining_seconds": left, "primitives": session.primitives,
            "open_commands": session.open_commands,
            "unreleased_commands": session.unreleased_commands, "bytes": session.bytes,
        }));
    }
    Ok(Report::new(table.text(), json.into()))
}

fn seconds(duration: Option<&prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |d| d.seconds as f64 + f64::from(d.nanos) / 1e9)
}

pub async fn expire(
    reach: &Reach,
    group_id: u32,
    session_id: u64,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let request = v1::ExpireSessionRequest { group_id, session_id, fence };
    let path = "/atomix.multiraft.v1.Node/ExpireSession";
    let _: v1::ExpireSessionResponse = groups.ask(group_id, path, request).await?;
    let json = json!({"group": group_id, "session": session_id, "open": false});
    Ok(Report::new(format!("session {session_id} of group {group_id} is not open"), json))
}

/// A primitive with its parts in all groups.
#[derive(Default)]
struct Whole {
    groups: Vec<u32>,
    entries: u64,
    bytes: u64,
}

pub async fn primitives(reach: &Reach, only: Option<u32>) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let mut wholes: BTreeMap<[String; 3], Whole> = BTreeMap::new();
    for (group, list) in groups.primitives(only).await? {
        for primitive in list {
            let spec = primitive.spec.unwrap_or_default();
            let key = [word(&spec.service).to_owned(), spec.namespace, spec.name];
            let whole = wholes.entry(key).or_default();
            whole.groups.push(group);
            whole.entries += primitive.entries;
            whole.bytes += primitive.bytes;
        }
    }
    let mut table = Table::new(["TYPE", "NAMESPACE", "NAME", "ENTRIES", "BYTES", "PARTITIONS"]);
    let mut json = Vec::new();
    for ([of, namespace, name], whole) in wholes {
        json.push(json!({
            "type": of, "namespace": namespace, "name": name, "entries": whole.entries,
            "bytes": whole.bytes, "groups": whole.groups,
        }));
        let (entries, count) = (whole.entries.to_string(), whole.groups.len().to_string());
        table.row([of, namespace, name, entries, bytes(whole.bytes), count]);
    }
    Ok(Report::new(table.text(), json.into()))
}

/// The word for a type, as the command line has it: `map` of `atomix.runtime.map.v1.Map`.
fn word(service: &str) -> &str {
    service.rsplit('.').nth(2).unwrap_or(service)
}

pub async fn destroy(
    reach: &Reach,
    of: &str,
    name: &str,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let is_meant = |primitive: &v1::PrimitiveInfo| {
        primitive.spec.as_ref().is_some_and(|spec| {
            let is_of = word(&spec.service) == of || spec.service == of;
            is_of && spec.namespace == reach.namespace && spec.name == name
        })
    };
    let mut destroyed = Vec::new();
    for (group_id, list) in groups.primitives(None).await? {
        for primitive in list.iter().filter(|primitive| is_meant(primitive)) {
            let (primitive_id, fence) = (primitive.primitive_id, fence.clone());
            let request = v1::DestroyPrimitiveRequest { group_id, primitive_id, fence };
            let path = "/atomix.multiraft.v1.Node/DestroyPrimitive";
            let _: v1::DestroyPrimitiveResponse = groups.ask(group_id, path, request).await?;
            destroyed.push(group_id);
        }
    }
    if destroyed.is_empty() {
        return Err(Failure::rejected(format!(
            "there is no {of} {name:?} in namespace {:?}; see `multiraft primitive list`",
            reach.namespace
        )));
    }
    let text = format!("{of} {name} is deleted, in {} partitions", destroyed.len());
    let json = json!({
        "type": of, "namespace": reach.namespace, "name": name, "groups": destroyed,
    });
    Ok(Report::new(text, json))
}

pub async fn quotas(reach: &Reach) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let request = |group_id, last: Option<&v1::QuotaInfo>| {
        let after = last.and_then(|last| last.quota.as_ref()).map(|quota| quota.namespace.clone());
        v1::GetQuotasRequest { group_id, after, limit: 0 }
    };
    let page = |page: v1::GetQuotasResponse| (page.quotas, page.more);
    let lists = groups.list(None, "/atomix.multiraft.v1.Node/GetQuotas", request, page).await?;
    let mut fullest: BTreeMap<String, (u32, v1::Quota, v1::QuotaUsage)> = BTreeMap::new();
    for (group, info) in lists.into_iter().flat_map(|(g, l)| l.into_iter().map(move |i| (g, i))) {
        let (quota, used) = (info.quota.unwrap_or_default(), info.used.unwrap_or_default());
        let known = fullest.get(&quota.namespace);
        if known.is_none_or(|(_, quota_there, there)| {
            share(&quota, &used).total_cmp(&share(quota_there, there)).is_gt()
        }) {
            fullest.insert(quota.namespace.clone(), (group, quota, used));
        }
    }
    let mut table = Table::new(["NAMESPACE", "PRIMITIVES", "BYTES", "SESSIONS", "GROUP"]);
    let mut json = Vec::new();
    for (namespace, (group, quota, used)) in fullest {
        let of = |used: String, limit: Option<String>| match limit {
            Some(limit) => format!("{used} of {limit}"),
            None => used,
        };
        table.row([
            namespace.clone(),
            of(used.primitives.to_string(), quota.primitives.map(|n| n.to_string())),
            of(bytes(used.bytes), quota.bytes.map(bytes)),
            of(used.sessions.to_string(), quota.sessions.map(|n| n.to_string())),
            group.to_string(),
        ]);
        let limit = |used: u64, limit: Option<u64>| json!({"used": used, "limit": limit});
        json.push(json!({
            "namespace": namespace, "group": group,
            "primitives": limit(used.primitives, quota.primitives),
            "bytes": limit(used.bytes, quota.bytes),
            "sessions": limit(used.sessions, quota.sessions),
        }));
    }
    Ok(Report::new(table.text(), json.into()))
}

/// The largest part of a limit that is taken.
fn share(quota: &v1::Quota, used: &v1::QuotaUsage) -> f64 {
    let pairs = [
        (used.primitives, quota.primitives),
        (used.bytes, quota.bytes),
        (used.sessions, quota.sessions),
    ];
    let share = |(used, limit): (u64, Option<u64>)| Some(used as f64 / limit?.max(1) as f64);
    pairs.into_iter().filter_map(share).fold(0.0, f64::max)
}

/// The same limits in every group; `None` removes them.
pub async fn set_quota(
    reach: &Reach,
    namespace: String,
    limits: Option<Limits>,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let groups = Groups::find(reach).await?;
    let ids = groups.ids(None)?;
    let Limits { primitives, bytes, sessions } = limits.unwrap_or_default();
    let quota = v1::Quota { namespace: namespace.clone(), primitives, bytes, sessions };
    for group_id in &ids {
        let (quota, fence) = (Some(quota.clone()), fence.clone());
        let request = v1::SetQuotaRequest { group_id: *group_id, quota, fence };
        let path = "/atomix.multiraft.v1.Node/SetQuota";
        let _: v1::SetQuotaResponse = groups.ask(*group_id, path, request).await?;
    }
    let what = if limits.is_some() { "is limited" } else { "has no limits" };
    let text = format!("namespace {namespace:?} {what} in each of {} groups", ids.len());
    let json: Value = json!({
        "namespace": namespace, "primitives": primitives, "bytes": bytes, "sessions": sessions,
        "groups": ids,
    });
    Ok(Report::new(text, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_words_of_the_command_line() {
        assert_eq!(word("atomix.runtime.map.v1.Map"), "map");
        assert_eq!(word("atomix.runtime.indexedmap.v1.IndexedMap"), "indexedmap");
        assert_eq!(word("other"), "other");
    }

    #[test]
    fn a_quota_is_as_full_as_its_fullest_limit() {
        let quota = v1::Quota { primitives: Some(4), bytes: Some(100), ..Default::default() };
        let used = v1::QuotaUsage { primitives: 1, bytes: 50, sessions: 1_000 };
        assert_eq!(share(&quota, &used), 0.5);
        assert_eq!(share(&v1::Quota::default(), &used), 0.0);
    }
}
