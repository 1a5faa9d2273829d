//! Learning the partitions, the nodes and the leaders from what the nodes say of themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error as _;
use std::io::ErrorKind;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures::future::join_all;
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

/// What some nodes said, by the address at which each was asked; silent ones have no answer.
type Said = Vec<(String, Option<v1::GetInfoResponse>)>;

/// Asks until every group is known or the time is over.
pub async fn partitions(nodes: &Nodes, options: &Options) -> Result<Vec<u32>, Error> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let (said, silence) = ask(nodes).await;
        apply(nodes, &said, options.discover);
        let problem = match complete(&said, options.groups) {
            Ok(partitions) => return Ok(partitions),
            Err(problem) => problem,
        };
        let problem = match silence.first() {
            Some((reason, _)) => format!("{problem}; {reason}"),
            None => problem,
        };
        let all_refuse =
            silence.len() == said.len() && silence.iter().all(|(_, cause)| is_refusal(cause));
        if all_refuse || Instant::now() + DISCOVERY_PAUSE >= deadline {
            return Err(Error::Discovery { message: problem });
        }
        debug!(problem, "asking the nodes again");
        tokio::time::sleep(DISCOVERY_PAUSE).await;
    }
}

/// Keeps nodes and leaders up to date for as long as the client exists.
pub async fn keep(nodes: Weak<Nodes>, leaders: Arc<Leaders>, discover: bool) {
    loop {
        let Some(present) = nodes.upgrade() else { return };
        apply(&present, &ask(&present).await.0, discover);
        drop(present);
        tokio::time::sleep(DISCOVERY_PAUSE).await;
        let _ = tokio::time::timeout(DISCOVERY_PERIOD, leaders.wanted.notified()).await;
    }
}

/// Why a node said nothing, in words and as it came.
type Silence = (String, Status);

/// What the nodes say, and why those that are silent are so.
async fn ask(nodes: &Nodes) -> (Said, Vec<Silence>) {
    let asked = join_all(nodes.list().into_iter().map(|node| async move {
        let call = unary(&node.channel, GET_INFO, v1::GetInfoRequest {});
        let answer = within(DISCOVERY_TIMEOUT, call).await;
        if answer.is_ok() {
            node.confirm();
        }
        (node.address.clone(), answer)
    }))
    .await;
    let mut silence = Vec::new();
    let said = asked.into_iter().map(|(address, answer)| {
        let answer = answer.map_err(|e| silence.push((format!("{address}: {}", describe(&e)), e)));
        (address, answer.ok())
    });
    let said = said.collect();
    (said, silence)
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

fn apply(nodes: &Nodes, said: &Said, discover: bool) {
    if discover {
        for address in unknown_addresses(said) {
            info!(address, "learned of a node");
            // An address that makes no sense is the peer's mistake, and no reason to fail here.
            let _ = nodes.add(&address, Source::Learned);
        }
    }
    nodes.leaders.set(leaders(said), addresses(said));
}

/// Client addresses that peers announced, of nodes that nobody asked yet.
fn unknown_addresses(said: &Said) -> BTreeSet<String> {
    let answers = || said.iter().filter_map(|(_, answer)| answer.as_ref());
    let known: BTreeSet<u64> = answers().map(|answer| answer.node_id).collect();
    let asked: BTreeSet<&str> = said.iter().map(|(address, _)| address.as_str()).collect();
    answers()
        .flat_map(|answer| &answer.peers)
        .filter(|peer| peer.connected && !known.contains(&peer.node_id))
        .map(|peer| peer.client_address.clone())
        .filter(|address| !address.is_empty() && !asked.contains(address.as_str()))
        .collect()
}

/// Where each node is asked, by every address that is told of it.
fn addresses(said: &Said) -> HashMap<String, String> {
    let answers = || said.iter().filter_map(|(asked, answer)| Some((asked, answer.as_ref()?)));
    let asked: HashMap<u64, &String> = answers().map(|(asked, a)| (a.node_id, asked)).collect();
    let peers = answers().flat_map(|(_, answer)| &answer.peers);
    let told = peers.filter_map(|peer| Some((&peer.client_address, *asked.get(&peer.node_id)?)));
    let own = said.iter().map(|(asked, _)| (asked, asked));
    own.chain(told).map(|(told, asked)| (told.clone(), asked.clone())).collect()
}

/// Address of each group's leader: what the node with the highest term says.
fn leaders(said: &Said) -> HashMap<u32, String> {
    let mut newest: HashMap<u32, (u64, u64)> = HashMap::new();
    let mut addresses = HashMap::new();
    for (address, answer) in said {
        let Some(answer) = answer else { continue };
        addresses.insert(answer.node_id, address);
        for group in answer.groups.iter().filter(|group| group.leader != 0) {
            let entry = newest.entry(group.group_id).or_default();
            *entry = (*entry).max((group.term, group.leader));
        }
    }
    newest
        .into_iter()
        .filter_map(|(group, (_, leader))| Some((group, (*addresses.get(&leader)?).clone())))
        .collect()
}

/// The groups of the cluster in order of id, or why they are not all known yet. A client that missed
/// one would look for keys in the wrong place, so nothing is guessed: nodes of a cluster with an
/// operator know how many there are. Without one every group has members on several nodes, and is
/// seen as long as fewer nodes than that are silent.
fn complete(said: &Said, wanted: Option<usize>) -> Result<Vec<u32>, String> {
    let asked: Vec<&str> = said.iter().map(|(address, _)| address.as_str()).collect();
    let asked = asked.join(", ");
    let answers: BTreeMap<u64, &v1::GetInfoResponse> =
        said.iter().filter_map(|(_, a)| a.as_ref()).map(|a| (a.node_id, a)).collect();
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
    let unanswered = said.iter().filter(|(_, answer)| answer.is_none()).count();
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

    #[test]
    fn groups_of_all_nodes_are_merged_in_order() {
        let said =
            vec![node(1, &[3, 1], &[2, 3]), node(2, &[2, 3], &[1, 3]), ("n3:1".into(), None)];
        assert_eq!(complete(&said, None), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn too_few_answers_are_not_taken_for_the_whole() {
        let said = vec![node(1, &[1, 2], &[2, 3, 4, 5])];
        let problem = complete(&said, None).expect_err("four of five nodes are silent");
        assert!(problem.contains("1 of 5 nodes"), "{problem}");
        assert_eq!(complete(&said, Some(4)), Ok(vec![1, 2, 3, 4]));
        assert!(complete(&said, Some(1)).is_err());
    }

    /// Two nodes without a group in common know nothing of each other.
    #[test]
    fn the_number_of_groups_that_nodes_were_told_is_believed_before_any_list() {
        let mut said = vec![node(1, &[1, 3], &[2, 3])];
        said[0].1.as_mut().expect("answered").cluster_groups = Some(4);
        assert_eq!(complete(&said, None), Ok(vec![1, 2, 3, 4]));
        assert!(complete(&said, Some(3)).is_err());
    }

    #[test]
    fn a_node_that_is_not_activated_is_not_believed() {
        let mut said = vec![node(1, &[1], &[])];
        said[0].1.as_mut().expect("answered").activated = false;
        assert!(complete(&said, None).is_err());
    }

    #[test]
    fn the_newest_term_names_the_leader() {
        let said = vec![node(1, &[1], &[]), node(2, &[1], &[])];
        assert_eq!(leaders(&said), HashMap::from([(1, "n2:1".to_owned())]));
    }

    #[test]
    fn peers_that_nobody_asked_are_learned() {
        let said = vec![node(1, &[1], &[2, 3]), ("n3:1".into(), None)];
        assert_eq!(unknown_addresses(&said), BTreeSet::from(["n2:1".to_owned()]));
    }
}
