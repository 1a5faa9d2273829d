use super::*;

fn candidate(epoch: Option<u64>) -> Candidate {
    let service = tower_stub();
    let election = Election {
        leases: Api::namespaced(service, "n"),
        name: "l".into(),
        identity: "me".into(),
        duration: Duration::from_secs(15),
        take_over: false,
    };
    Candidate { election, seen: None, epoch }
}

/// A client that is never called.
fn tower_stub() -> kube::Client {
    kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().expect("constant")))
        .expect("a plain configuration makes a client")
}

fn lease(holder: &str, transitions: i32) -> Lease {
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    }
}

const FRESH: Duration = Duration::from_secs(1);
const STALE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_live_holder_is_left_alone_and_a_silent_one_replaced() {
    let me = candidate(None);
    assert_eq!(me.decide(&lease("other", 4), FRESH, 0), Move::Wait);
    assert_eq!(me.decide(&lease("other", 4), STALE, 0), Move::Acquire { epoch: 5 });
    assert_eq!(me.decide(&lease("", 4), FRESH, 0), Move::Acquire { epoch: 5 });
}

#[tokio::test]
async fn the_epoch_stays_while_holding_and_grows_otherwise() {
    assert_eq!(candidate(Some(4)).decide(&lease("me", 4), FRESH, 3), Move::Renew { epoch: 4 });
    // Nodes report the epoch of our own calls.
    assert_eq!(candidate(Some(4)).decide(&lease("me", 4), FRESH, 4), Move::Renew { epoch: 4 });
    // A restarted process of the same name.
    assert_eq!(candidate(None).decide(&lease("me", 4), FRESH, 0), Move::Acquire { epoch: 5 });
    // Somebody took it and gave it back in between.
    assert_eq!(candidate(Some(4)).decide(&lease("me", 6), FRESH, 0), Move::Acquire { epoch: 7 });
}

#[tokio::test]
async fn a_node_that_saw_a_higher_epoch_raises_ours() {
    assert_eq!(candidate(Some(1)).decide(&lease("me", 1), FRESH, 9), Move::Acquire { epoch: 10 });
    assert_eq!(candidate(None).decide(&lease("", 0), FRESH, 9), Move::Acquire { epoch: 10 });
}

#[tokio::test]
async fn a_holder_that_lost_the_lease_stops_first() {
    assert_eq!(candidate(Some(4)).decide(&lease("other", 5), STALE, 0), Move::Wait);
}

#[tokio::test]
async fn a_forced_take_over_does_not_wait() {
    let mut me = candidate(None);
    me.election.take_over = true;
    assert_eq!(me.decide(&lease("other", 4), FRESH, 0), Move::Acquire { epoch: 5 });
}

#[tokio::test(start_paused = true)]
async fn a_standing_ends_by_itself() {
    let now = Instant::now();
    let standing = Standing::Leading { epoch: 3, until: now + FRESH };
    assert_eq!(standing.epoch(now), Some(3));
    assert_eq!(standing.epoch(now + FRESH), None);
}
