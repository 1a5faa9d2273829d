//! Sessions that take turns, told step by step.

use super::*;
use crate::digest::each_field_changes_the_digest;
use crate::timers::Timers;

/// Locks, and what is around them. The command of a session is its number times 100 and one more with
/// every request.
#[derive(Default)]
struct Scene {
    locks: KeyLocks,
    timers: Timers,
    index: u64,
    log_time: u64,
}

/// What the waiting commands were told.
type Told = Vec<(u64, Result<(), Status>)>;

fn command(number: u64) -> CommandKey {
    CommandKey { session_id: number / 100, sequence_num: number }
}

fn keys(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

impl Scene {
    fn run<T>(&mut self, act: impl FnOnce(&mut KeyLocks, &mut Context<'_>) -> T) -> (T, Told) {
        self.index += 1;
        let mut emitted = Vec::new();
        let now = (self.index, self.log_time);
        let mut context = Context::new(now, 1, &mut self.timers, &mut emitted);
        let result = act(&mut self.locks, &mut context);
        let told = emitted.into_iter().map(|Emitted { command, result, last }| {
            assert!(last, "one answer for each request");
            (command.sequence_num, result.map(drop).map_err(|failure| failure.status))
        });
        (result, told.collect())
    }

    fn lock(&mut self, number: u64, names: &str, timeout: Option<u64>) -> Result<Step, Status> {
        let names = keys(names);
        let (result, told) =
            self.run(|locks, context| locks.lock(command(number), &names, timeout, context));
        assert_eq!(told, []);
        result.map_err(|failure| failure.status)
    }

    fn is_granted(&mut self, number: u64, names: &str) -> bool {
        self.lock(number, names, None).unwrap() != Step::Open
    }

    fn unlock(&mut self, session_id: u64, names: &str) -> Result<Told, Status> {
        let names = keys(names);
        let (result, told) = self.run(|locks, context| locks.unlock(session_id, &names, context));
        result.map(|_| told).map_err(|failure| failure.status)
    }

    fn cancel(&mut self, number: u64) -> Told {
        self.run(|locks, context| locks.cancel(command(number), context)).1
    }

    fn close(&mut self, session_id: u64) -> Told {
        self.run(|locks, context| locks.close_session(session_id, context)).1
    }

    fn until(&mut self, log_time: u64) -> Told {
        let mut told = Vec::new();
        while let Some((timer, _)) = self.timers.take_due(log_time) {
            self.log_time = timer.due;
            told.extend(self.run(|locks, context| locks.on_timer(timer.id, context)).1);
        }
        self.log_time = log_time;
        told
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        self.locks.digest(&mut digest);
        digest.finish()
    }

    fn assert_empty(&self) {
        assert_eq!(self.digest(), Scene::default().digest(), "{:?}", self.locks);
        assert_eq!(self.timers.armed_count(), 0);
    }
}

#[test]
fn who_asks_first_gets_it_first() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert!(!scene.is_granted(201, "a"));
    assert!(!scene.is_granted(301, "a"));
    assert!(scene.is_granted(302, "b"));
    assert_eq!(scene.unlock(1, "a"), Ok(vec![(201, Ok(()))]));
    assert_eq!(scene.unlock(2, ""), Ok(vec![(301, Ok(()))]));
    assert_eq!(scene.unlock(3, "a b"), Ok(vec![]));
    scene.assert_empty();
}

#[test]
fn several_keys_are_locked_together_or_not_at_all() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "b"));
    assert!(!scene.is_granted(201, "a b c"));
    // The older request is first at a and c, though it has not locked them.
    assert!(!scene.is_granted(301, "c"));
    assert_eq!(scene.unlock(2, "a"), Err(Status::Conflict));
    assert_eq!(scene.unlock(1, "b"), Ok(vec![(201, Ok(()))]));
    assert_eq!(scene.unlock(2, "a b"), Ok(vec![]));
    assert_eq!(scene.unlock(2, "c"), Ok(vec![(301, Ok(()))]));
    assert_eq!(scene.close(3), []);
    scene.assert_empty();
}

#[test]
fn requests_that_cross_do_not_block_each_other_for_ever() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a b"));
    assert!(!scene.is_granted(201, "b a"));
    assert!(!scene.is_granted(301, "a b"));
    assert_eq!(scene.unlock(1, "a"), Ok(vec![]));
    assert_eq!(scene.unlock(1, "b"), Ok(vec![(201, Ok(()))]));
    assert_eq!(scene.unlock(2, ""), Ok(vec![(301, Ok(()))]));
}

#[test]
fn a_session_that_has_a_lock_waits_for_it_like_any_other() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert!(!scene.is_granted(102, "a"));
    assert_eq!(scene.unlock(1, ""), Ok(vec![(102, Ok(()))]));
    assert_eq!(scene.unlock(1, ""), Ok(vec![]));
    scene.assert_empty();
}

#[test]
fn a_key_named_twice_is_one_key() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a a"));
    assert_eq!(scene.unlock(1, "a a"), Ok(vec![]));
    scene.assert_empty();
}

#[test]
fn unlocking_what_another_has_locked_unlocks_nothing() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert!(scene.is_granted(201, "b"));
    let before = scene.digest();
    assert_eq!(scene.unlock(1, "a b"), Err(Status::Conflict));
    assert_eq!(scene.unlock(1, "c"), Err(Status::Conflict));
    assert_eq!(scene.digest(), before);
    // To have locked nothing is no error when nothing is named.
    assert_eq!(scene.unlock(3, ""), Ok(vec![]));
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert_eq!(scene.lock(201, "a b", Some(1_000)), Ok(Step::Open));
    assert!(!scene.is_granted(301, "b"));
    assert_eq!(scene.until(999), []);
    // Whoever stood behind goes ahead.
    assert_eq!(scene.until(1_000), [(201, Err(Status::Conflict)), (301, Ok(()))]);
    assert_eq!(scene.unlock(1, "a"), Ok(vec![]));
    assert_eq!(scene.unlock(3, "b"), Ok(vec![]));
    scene.assert_empty();
}

#[test]
fn a_lock_that_was_granted_in_time_does_not_time_out() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert_eq!(scene.lock(201, "a", Some(1_000)), Ok(Step::Open));
    assert_eq!(scene.unlock(1, "a"), Ok(vec![(201, Ok(()))]));
    assert_eq!(scene.until(5_000), []);
    assert_eq!(scene.lock(301, "a", Some(0)), Err(Status::Conflict));
    assert_eq!(scene.unlock(2, "a"), Ok(vec![]));
    scene.assert_empty();
}

#[test]
fn a_timeout_of_zero_does_not_wait() {
    let mut scene = Scene::default();
    assert!(matches!(scene.lock(101, "a", Some(0)), Ok(Step::Complete(_))));
    let before = scene.digest();
    assert_eq!(scene.lock(201, "a", Some(0)), Err(Status::Conflict));
    assert_eq!(scene.digest(), before);
}

#[test]
fn who_gives_up_leaves_the_queue_and_keeps_what_it_has() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert_eq!(scene.lock(201, "a", Some(1_000)), Ok(Step::Open));
    assert!(!scene.is_granted(301, "a"));
    assert_eq!(scene.cancel(201), []);
    assert_eq!(scene.cancel(999), []);
    assert_eq!(scene.until(2_000), []);
    assert_eq!(scene.unlock(1, "a"), Ok(vec![(301, Ok(()))]));
}

#[test]
fn what_an_ended_session_leaves_goes_to_others_only() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert!(!scene.is_granted(102, "a"));
    assert_eq!(scene.lock(103, "a", Some(1_000)), Ok(Step::Open));
    assert!(!scene.is_granted(201, "a"));
    assert_eq!(scene.close(1), [(201, Ok(()))]);
    assert_eq!(scene.until(2_000), []);
    assert_eq!(scene.close(2), []);
    scene.assert_empty();
}

#[test]
fn the_end_of_a_former_holder_takes_nothing_from_the_present_one() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert!(!scene.is_granted(201, "a"));
    assert_eq!(scene.unlock(1, "a"), Ok(vec![(201, Ok(()))]));
    assert_eq!(scene.close(1), []);
    assert!(!scene.is_granted(301, "a"));
}

#[test]
fn keys_are_named_few_and_short() {
    let mut scene = Scene::default();
    assert_eq!(scene.lock(101, "", None), Err(Status::Invalid));
    let long = "k".repeat(1_025);
    assert_eq!(scene.lock(102, &long, None), Err(Status::Invalid));
    assert_eq!(scene.unlock(1, &long), Err(Status::Invalid));
    let many = "k ".repeat(LOCK_KEYS_MAX + 1);
    assert_eq!(scene.lock(103, &many, None), Err(Status::Invalid));
    assert_eq!(scene.unlock(1, &many), Err(Status::Invalid));
    scene.assert_empty();
}

#[test]
fn queues_end_somewhere() {
    let mut scene = Scene::default();
    for number in 0..1_000 {
        scene.lock(100 + number, "a", None).unwrap();
    }
    for number in 1_000..KEY_LOCKS_MAX as u64 {
        assert!(scene.is_granted(100 + number, &format!("key-{number}")));
    }
    let before = scene.digest();
    assert_eq!(scene.lock(99, "a", None), Err(Status::Conflict));
    assert_eq!(scene.lock(99, "c", None), Err(Status::Conflict));
    assert_eq!(scene.digest(), before);
    // All of them are of sessions 1 to 656.
    for session_id in 1..657 {
        scene.close(session_id);
    }
    scene.assert_empty();
}

#[test]
fn each_field_of_the_locks_is_in_the_digest() {
    let mut scene = Scene::default();
    assert!(scene.is_granted(101, "a"));
    assert_eq!(scene.lock(201, "a", Some(1)), Ok(Step::Open));
    let timer = scene.timers.arm(9, crate::timers::Owner::Primitive(1));
    let other = Request { command: command(301), keys: Arc::from([]), timeout: None };
    each_field_changes_the_digest!(scene.locks, KeyLocks::digest, KeyLocks {
        requests => requests.insert(9, other),
        indexes => indexes.insert(command(301), 1),
        queues => queues.insert(("a".into(), 9)),
        timeouts => timeouts.insert(9, 1),
    });
    let request =
        Request { command: command(101), keys: Arc::from([Arc::from("a")]), timeout: None };
    each_field_changes_the_digest!(request, Request::digest, Request {
        command => *command = self::command(102),
        keys => *keys = Arc::from([Arc::from("b")]),
        timeout => *timeout = Some(timer),
    });
}
