//! Learning the partitions, the nodes and the leaders from what the nodes say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::future::ready;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use multiraft_proto::v1;
use tonic::{Code, Status};
use tracing::{debug, info};

use crate::administration::unary;
use crate::calls::{describe, within};
use crate::leaders::Leaders;
use crate::limits::{DISCOVERY_PAUSE, DISCOVERY_PERIOD, DISCOVERY_TIMEOUT};
use crate::nodes::{Nodes, Source};
use crate::{Error, Options};

const GET_INFO: &str = "/atomix.multiraft.v1.Node/GetInfo";

/// What nodes said, by the address at which each was asked; those that said nothing (yet) have no answer.
type Said = BTreeMap<String, Option<v1::GetInfoResponse>>;

/// What one node says when it is asked at its address.
type Answer = (String, Result<v1::GetInfoResponse, Status>);

/// Asks until every group is known or the time is over.
pub async fn partitions(nodes: &Nodes, options: &Options) -> Result<Vec<u32>, Error> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let mut said = unsaid(nodes);
        let answers = ask(nodes).inspect(|(asked, answer)| learn(nodes, asked, answer));
        let Incomplete { problem, is_final } =
            match gather(&mut said, answers, options.groups).await {
                Ok(partitions) => return Ok(partitions),
                Err(incomplete) => incomplete,
            };
        if is_final || Instant::now() + DISCOVERY_PAUSE >= deadline {
            return Err(Error::Discovery { message: problem });
        }
        if options.discover {
            add_unknown(nodes, &said);
        }
        debug!(problem, "asking the nodes again");
        tokio::time::sleep(DISCOVERY_PAUSE).await;
    }
}

/// Keeps nodes and leaders up to date for as long as the client exists.
pub async fn keep(nodes: Weak<Nodes>, leaders: Arc<Leaders>, discover: bool) {
    loop {
        let Some(present) = nodes.upgrade() else { return };
        let mut again = pin!(async {
            tokio::time::sleep(DISCOVERY_PAUSE).await;
            leaders.wanted.notified().await;
        });
        let mut said = unsaid(&present);
        let round = ask(&present).for_each(|(asked, answer)| {
            learn(&present, &asked, &answer);
            said.insert(asked, answer.ok());
            ready(())
        });
        // Whoever wants to know a leader does not wait for a node that is silent.
        let is_over = tokio::select! {
            () = round => true,
            () = &mut again => false,
        };
        if discover {
            add_unknown(&present, &said);
        }
        drop(present);
        if is_over {
            let _ = tokio::time::timeout(DISCOVERY_PERIOD, again).await;
        }
    }
}

fn unsaid(nodes: &Nodes) -> Said {
    nodes.list().into_iter().map(|node| (node.address.clone(), None)).collect()
}

/// The answers of all nodes, as they come.
fn ask(nodes: &Nodes) -> impl Stream<Item = Answer> + use<> {
    let asked = nodes.list().into_iter().map(|node| async move {
        let call = unary(&node.channel, GET_INFO, v1::GetInfoRequest {});
        let answer = within(DISCOVERY_TIMEOUT, call).await;
        if answer.is_ok() {
            node.confirm();
        }
        (node.address.clone(), answer)
    });
    asked.collect::<FuturesUnordered<_>>()
}

fn learn(nodes: &Nodes, asked: &str, answer: &Result<v1::GetInfoResponse, Status>) {
    match answer {
        Ok(said) => nodes.leaders.learn(asked, said),
        Err(_) => nodes.leaders.is_silent(asked),
    }
}

fn add_unknown(nodes: &Nodes, said: &Said) {
    for address in unknown_addresses(said) {
        info!(address, "learned of a node");
        // An address that makes no sense is the peer's mistake, and no reason to fail here.
        let _ = nodes.add(&address, Source::Learned);
    }
}

/// Why the groups are not known.
#[derive(Debug)]
struct Incomplete {
    problem: String,
    /// Asking again is of no use.
    is_final: bool,
}

/// The groups of the cluster, as soon as the answers so far tell of all.
async fn gather(
    said: &mut Said,
    answers: impl Stream<Item = Answer>,
    wanted: Option<usize>,
) -> Result<Vec<u32>, Incomplete> {
    let mut answers = pin!(answers);
    let mut silence = Vec::new();
    while let Some((address, answer)) = answers.next().await {
        match answer {
            Err(status) => silence.push((format!("{address}: {}", describe(&status)), status)),
            Ok(answer) => {
                said.insert(address, Some(answer));
                if let Ok(partitions) = complete(said, wanted) {
                    return Ok(partitions);
                }
            }
        }
    }
    let problem = complete(said, wanted).err().unwrap_or_default();
    let problem = match silence.first() {
        Some((reason, _)) => format!("{problem}; {reason}"),
        None => problem,
    };
    let all_refuse =
        silence.len() == said.len() && silence.iter().all(|(_, cause)| is_refusal(cause));
    Err(Incomplete { problem, is_final: all_refuse })
}

/// Whether asking again is of no use before certificates or roles change.
fn is_refusal(status: &Status) -> bool {
    if status.code() == Code::PermissionDenied {
        return true;
    }
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = error.downcast_ref::<std::io::Error>();
        let is_plain = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        if refused.is_some_and(|error| error.kind() == ErrorKind::InvalidData)
            || is_plain == Some(h2::Reason::INADEQUATE_SECURITY)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Client addresses that peers announced, of nodes that nobody asked yet.
fn unknown_addresses(said: &Said) -> BTreeSet<String> {
    let answers = || said.values().flatten();
    let known: BTreeSet<u64> = answers().map(|answer| answer.node_id).collect();
    answers()
        .flat_map(|answer| &answer.peers)
        .filter(|peer| peer.connected && !known.contains(&peer.node_id))
        .map(|peer| peer.client_address.clone())
        .filter(|address| !address.is_empty() && !said.contains_key(address))
        .collect()
}

/// The groups of the cluster in order of id, or why they are not all known yet. A client that missed
/// one would look for keys in the wrong place, so nothing is guessed: nodes of a cluster with an
/// operator know how many there are. Without one every group has members on several nodes, and is
/// seen as long as fewer nodes than that are silent.
fn complete(said: &Said, wanted: Option<usize>) -> Result<Vec<u32>, String> {
    let asked = said.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let answers: BTreeMap<u64, &v1::GetInfoResponse> =
        said.values().flatten().map(|a| (a.node_id, a)).collect();
    if answers.is_empty() {
        return Err(format!(
            "no node answered at {asked}; check the addresses and that the nodes run"
        ));
    }
    let open: Vec<_> = answers.values().filter(|answer| answer.activated).collect();
    let told = open.iter().filter_map(|answer| answer.cluster_groups).max().unwrap_or(0);
    if told > 0 {
        let partitions = (1..=told).collect();
        let refused = wanted.filter(|wanted| *wanted != told as usize);
        return refused
            .map_or(Ok(partitions), |w| Err(format!("{told} groups are there, not {w}")));
    }
    let groups: BTreeMap<u32, usize> = open
        .iter()
        .flat_map(|answer| &answer.groups)
        .map(|group| (group.group_id, group.members.len()))
        .collect();
    if groups.is_empty() {
        return Err(format!("the nodes at {asked} hold no groups yet; form the cluster first"));
    }
    let partitions: Vec<u32> = groups.keys().copied().collect();
    match wanted {
        Some(wanted) if wanted == partitions.len() => return Ok(partitions),
        // Group ids start at 1 without a gap.
        Some(wanted) if partitions.last().is_some_and(|last| *last as usize <= wanted) => {
            return Ok((1..=wanted as u32).collect());
        }
        Some(wanted) => return Err(format!("{} groups are there, not {wanted}", partitions.len())),
        None => {}
    }
    let mut known: BTreeSet<u64> = answers.keys().copied().collect();
    known.extend(answers.values().flat_map(|answer| &answer.peers).map(|peer| peer.node_id));
    let members = answers.values().flat_map(|answer| &answer.groups).flat_map(|g| &g.members);
    known.extend(members.map(|member| member.node_id).filter(|id| *id != 0));
    let unanswered = said.values().filter(|answer| answer.is_none()).count();
    let silent = (known.len() - open.len()).max(unanswered);
    let copies = groups.values().copied().min().unwrap_or(0);
    if silent < copies {
        return Ok(partitions);
    }
    Err(format!(
        "only {} of {} nodes answered, so groups may be missing in their lists; \
         give more endpoints, or the number of groups",
        open.len(),
        known.len().max(said.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, groups: &[u32], peers: &[u64]) -> (String, Option<v1::GetInfoResponse>) {
        let groups = groups.iter().map(|group| v1::GroupState {
            group_id: *group,
            members: vec![v1::MemberConfig::default(); 3],
            term: 10 + id,
            leader: id,
            ..Default::default()
        });
        let peers = peers.iter().map(|peer| v1::PeerState {
            node_id: *peer,
            connected: true,
            client_address: format!("n{peer}:1"),
            ..Default::default()
        });
        let answer = v1::GetInfoResponse {
            node_id: id,
            activated: true,
            groups: groups.collect(),
            peers: peers.collect(),
            ..Default::default()
        };
        (format!("n{id}:1"), Some(answer))
    }

    /// A node that was told how many groups there are.
    fn told(
        groups: u32,
        (address, answer): (String, Option<v1::GetInfoResponse>),
    ) -> (String, Option<v1::GetInfoResponse>) {
        let told = |said| v1::GetInfoResponse { cluster_groups: Some(groups), ..said };
        (address, answer.map(told))
    }

    #[tokio::test]
    async fn nobody_waits_for_a_silent_node_when_all_is_known() {
        let mut said = Said::from([("n1:1".into(), None), ("n2:1".into(), None)]);
        let (address, answer) = told(2, node(1, &[1], &[2]));
        let first = (address, Ok(answer.expect("answered")));
        let answers = futures::stream::iter([first]).chain(futures::stream::pending());
        let known = gather(&mut said, answers, None).await;
        assert_eq!(known.expect("all is known"), [1, 2]);
    }

    #[test]
    fn groups_of_all_nodes_are_merged_in_order() {
        let said = Said::from([
            node(1, &[3, 1], &[2, 3]),
            node(2, &[2, 3], &[1, 3]),
            ("n3:1".into(), None),
        ]);
        assert_eq!(complete(&said, None), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn too_few_answers_are_not_taken_for_the_whole() {
        let said = Said::from([node(1, &[1, 2], &[2, 3, 4, 5])]);
        let problem = complete(&said, None).expect_err("four of five nodes are silent");
        assert!(problem.contains("1 of 5 nodes"), "{problem}");
        assert_eq!(complete(&said, Some(4)), Ok(vec![1, 2, 3, 4]));
        assert!(complete(&said, Some(1)).is_err());
    }

    /// Two nodes without a group in common know nothing of each other.
    #[test]
    fn the_number_of_groups_that_nodes_were_told_is_believed_before_any_list() {
        let said = Said::from([told(4, node(1, &[1, 3], &[2, 3]))]);
        assert_eq!(complete(&said, None), Ok(vec![1, 2, 3, 4]));
        assert!(complete(&said, Some(3)).is_err());
    }

    #[test]
    fn a_node_that_is_not_activated_is_not_believed() {
        let (address, answer) = node(1, &[1], &[]);
        let answer = answer.map(|said| v1::GetInfoResponse { activated: false, ..said });
        let said = Said::from([(address, answer)]);
        assert!(complete(&said, None).is_err());
    }

    #[test]
    fn peers_that_nobody_asked_are_learned() {
        let said = Said::from([node(1, &[1], &[2, 3]), ("n3:1".into(), None)]);
        assert_eq!(unknown_addresses(&said), BTreeSet::from(["n2:1".to_owned()]));
    }
}
