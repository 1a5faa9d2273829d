//! What goes out, and who may still send, without a network.

use futures::{FutureExt, StreamExt};

use super::*;

fn stream(window: u32) -> Arc<Shared> {
    let shared = Arc::new(Shared::new());
    shared.take(v1::OpenStreamResponse { window, ..Default::default() });
    shared
}

fn place(shared: &Arc<Shared>) -> Option<Place> {
    place_for(shared, Urgency::Usual)
}

fn place_for(shared: &Arc<Shared>, urgency: Urgency) -> Option<Place> {
    let permit = shared.permit(urgency).now_or_never()??;
    Some(Place { shared: shared.clone(), permit })
}

fn query(bytes: usize) -> Call {
    Call::Query(v1::StreamQuery { input: vec![0; bytes].into(), ..Default::default() })
}

fn send(shared: &Arc<Shared>, bytes: usize) -> (Sent, oneshot::Receiver<v1::StreamAnswer>) {
    let (reply, answer) = oneshot::channel();
    let place = place(shared).expect("a place is free");
    let sent = place.send(1, query(bytes), Sink::One(reply)).expect("the stream stands");
    (sent, answer)
}

/// What would be sent now: the id of each call of each message, and whether it takes one back.
fn outgoing(shared: &Arc<Shared>) -> Vec<Vec<(u64, bool)>> {
    let mut requests = Requests(shared.clone());
    let mut messages = Vec::new();
    while let Some(Some(message)) = requests.next().now_or_never() {
        let cancels = |call: &v1::StreamCall| matches!(call.call, Some(Call::Cancel(_)));
        messages.push(message.calls.iter().map(|call| (call.call_id, cancels(call))).collect());
    }
    messages
}

fn answer(shared: &Shared, call_id: u64) {
    let answer = v1::StreamAnswer { call_id, last: true, ..Default::default() };
    shared.take(v1::OpenStreamResponse { answers: vec![answer], ..Default::default() });
}

#[test]
fn calls_are_gathered_up_to_the_size_of_a_message() {
    let shared = stream(10);
    let calls: Vec<_> = [10, 10, FRAME_BYTES_MAX, 10].map(|bytes| send(&shared, bytes)).into();
    let expected = [vec![(1, false), (2, false)], vec![(3, false)], vec![(4, false)]];
    assert_eq!(outgoing(&shared), expected);
    drop(calls);
}

#[test]
fn a_dropped_call_is_taken_back_if_it_was_sent_and_not_answered() {
    let shared = stream(10);
    let (sent, answered, unsent) = (send(&shared, 1), send(&shared, 1), send(&shared, 1));
    drop(unsent);
    assert_eq!(outgoing(&shared), [[(1, false), (2, false)]], "nothing of what was not sent");
    answer(&shared, 2);
    drop(answered);
    assert_eq!(outgoing(&shared), [[]; 0]);
    drop(sent);
    assert_eq!(outgoing(&shared), [[(1, true)]]);
    assert_eq!(shared.places.available_permits(), 10);
}

#[test]
fn places_are_free_again_when_calls_are_answered() {
    let shared = stream(2);
    let calls = [send(&shared, 1), send(&shared, 1)];
    assert!(place(&shared).is_none());
    answer(&shared, 1);
    assert!(place(&shared).is_some());
    drop(calls);
}

#[test]
fn the_last_places_are_for_urgent_calls() {
    let shared = stream(RESERVE_PART);
    let usual: Vec<_> = std::iter::from_fn(|| place(&shared)).collect();
    assert_eq!(usual.len() as u32, RESERVE_PART - 1);
    let urgent = place_for(&shared, Urgency::Urgent).expect("one is left");
    assert!(place_for(&shared, Urgency::Urgent).is_none());
    drop(usual);
    assert!(!shared.retire(), "the urgent one has a place");
    drop(urgent);
    assert!(shared.retire());
}

#[test]
fn an_idle_stream_ends_unless_a_call_is_open_or_about_to_be() {
    let shared = stream(2);
    let about = place(&shared).expect("free");
    assert!(!shared.retire(), "somebody has a place");
    drop(about);
    let open = send(&shared, 1);
    assert!(!shared.retire(), "a call is open");
    answer(&shared, 1);
    drop(open);
    assert!(shared.retire());
    assert!(place(&shared).is_none(), "it takes none any more");
}

#[test]
fn the_end_is_told_to_whoever_waits() {
    let shared = stream(2);
    let (sent, mut reply) = send(&shared, 1);
    let place = place(&shared).expect("free");
    shared.end(Over::Broken(Status::aborted("cut")));
    assert!(reply.try_recv().is_err(), "no answer comes");
    assert_eq!(sent.why().status.code(), Code::Aborted);
    let late = place.send(1, query(1), Sink::Overran).err().expect("over");
    assert_eq!(late.status.code(), Code::Aborted);
    drop(sent);
    assert_eq!(outgoing(&shared), [[]; 0], "nothing is taken back from a stream that is over");
}
