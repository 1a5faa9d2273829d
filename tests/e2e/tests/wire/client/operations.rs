//! Every operation of every primitive, once, and the rejections that it has.

use std::time::Duration;

use multiraft_client::{Cluster, Status, Version, Write};

use super::{GROUPS, connect, three};

#[tokio::test]
async fn every_typed_operation_is_served() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    counter(&cluster).await;
    counter_map(&cluster).await;
    election(&cluster).await;
    indexed_map(&cluster).await;
    lock(&cluster).await;
    map(&cluster).await;
    multi_map(&cluster).await;
    set(&cluster).await;
    value(&cluster).await;
    cluster.close().await;
}

async fn counter(cluster: &Cluster) {
    let counter = cluster.counter("c");
    assert_eq!(counter.set(5).await.unwrap().value, 5);
    assert_eq!(counter.increment(3).await.unwrap().value, 8);
    assert_eq!(counter.decrement(10).await.unwrap().value, -2);
    assert_eq!(counter.update(-2, 7).await.unwrap().value, 7);
    assert!(counter.update(-2, 7).await.unwrap_err().is_conflict());
    assert_eq!(counter.get().await.unwrap().value, 7);
    assert_eq!(counter.local().get().await.unwrap().value, 7, "its own writes are seen");
    let full = cluster.counter("full");
    full.set(i64::MAX).await.unwrap();
    assert_eq!(full.increment(1).await.unwrap_err().status(), Some(Status::Invalid));
}

async fn counter_map(cluster: &Cluster) {
    let map = cluster.counter_map("cm");
    for n in 0..20 {
        assert_eq!(map.set(&format!("key-{n}"), n).await.unwrap().value, 0, "key-{n} is new");
    }
    assert_eq!(map.size().await.unwrap().value, 20);
    assert_eq!(map.size().await.unwrap().indexes.len(), GROUPS as usize);
    map.insert("new", 3).await.unwrap();
    assert!(map.insert("new", 3).await.unwrap_err().is_already_exists());
    map.update("new", 3, 4).await.unwrap();
    assert!(map.update("new", 3, 4).await.unwrap_err().is_conflict());
    assert!(map.update("missing", 0, 4).await.unwrap_err().is_not_found());
    assert_eq!(map.increment("new", 6).await.unwrap().value, 4, "the number before");
    assert_eq!(map.decrement("new", 1).await.unwrap().value, 10);
    assert_eq!(map.get("new").await.unwrap().value, Some(9));
    assert_eq!(map.get("missing").await.unwrap().value, None);
    assert!(map.remove("new", 8).await.unwrap_err().is_conflict());
    map.remove("new", 9).await.unwrap();
    assert!(map.remove("new", 9).await.unwrap_err().is_not_found());
    map.lock(["a", "b", "c"], None).await.unwrap().unlock().await.unwrap();
    map.clear().await.unwrap();
    assert_eq!(map.local().size().await.unwrap().value, 0);
}

async fn election(cluster: &Cluster) {
    let election = cluster.election("e");
    let term = election.term().await.unwrap().value;
    assert_eq!((term.token.0, term.leader), (0, None));
    for candidate in ["a", "b", "c"] {
        election.enter(candidate).await.unwrap();
    }
    let order = async || {
        let term = election.term().await.unwrap().value;
        format!("{} {} {}", term.token, term.leader.unwrap_or_default(), term.queue.join(""))
    };
    assert_eq!(order().await, "1 a bc");
    election.promote("c").await.unwrap();
    assert_eq!(order().await, "1 a cb");
    election.promote("c").await.unwrap();
    assert_eq!(order().await, "2 c ab");
    election.demote("c").await.unwrap();
    assert_eq!(order().await, "3 a cb");
    election.anoint("b").await.unwrap();
    assert_eq!(order().await, "4 b ac");
    election.withdraw("b").await.unwrap();
    assert_eq!(order().await, "5 a c");
    let term = election.evict("a").await.unwrap().value;
    assert_eq!((term.leader.as_deref(), term.queue.len()), (Some("c"), 0));
    election.withdraw("c").await.unwrap();
    let leadership = election.campaign("d").await.unwrap();
    assert_eq!((leadership.candidate(), leadership.token().0), ("d", 7));
    leadership.withdraw().await.unwrap();
    assert_eq!(order().await, "7  ");
}

async fn indexed_map(cluster: &Cluster) {
    let map = cluster.indexed_map("im");
    assert_eq!(map.first().await.unwrap().value, None);
    let one = map.append("one", "1", None).await.unwrap().value;
    let two = map.append("two", "2", Some(Duration::from_secs(3600))).await.unwrap().value;
    let three = map.append("three", "3", None).await.unwrap().value;
    assert_eq!([one.index, two.index, three.index], [1, 2, 3]);
    assert!(map.append("two", "2", None).await.unwrap_err().is_already_exists());
    let changed = map.update("two", "II", Write::over(two.value.version)).await.unwrap().value;
    assert_eq!((changed.index, &changed.value.value[..]), (2, &b"II"[..]));
    let stale = map.update(2, "x", Write::over(two.value.version)).await;
    assert!(stale.unwrap_err().is_conflict());
    assert!(map.update("four", "4", Write::default()).await.unwrap_err().is_not_found());
    assert_eq!(map.get("two").await.unwrap().value, Some(changed.clone()));
    assert_eq!(map.get(2).await.unwrap().value, Some(changed.clone()));
    assert_eq!(map.get(9).await.unwrap().value, None);
    assert!(map.get(0).await.unwrap_err().to_string().contains("counted from 1"));
    assert_eq!(map.first().await.unwrap().value, Some(one.clone()));
    assert_eq!(map.last().await.unwrap().value, Some(three.clone()));
    assert_eq!(map.before(2).await.unwrap().value, Some(one));
    assert_eq!(map.after(2).await.unwrap().value, Some(three));
    assert_eq!(map.after(3).await.unwrap().value, None);
    assert!(map.remove("two", Some(Version(1))).await.unwrap_err().is_conflict());
    assert_eq!(map.remove(2, None).await.unwrap().value, changed);
    assert!(map.remove("two", None).await.unwrap_err().is_not_found());
    assert_eq!(map.size().await.unwrap().value, 2);
    map.clear().await.unwrap();
    assert_eq!(map.local().size().await.unwrap().value, 0);
    let four = cluster.indexed_map("im").append("one", "1", None).await.unwrap().value;
    assert_eq!(four.index, 4, "an index is not given out again");
}

async fn lock(cluster: &Cluster) {
    let lock = cluster.lock("l");
    assert_eq!(lock.holder().await.unwrap().value, None);
    let guard = lock.acquire().await.unwrap();
    assert_eq!(lock.holder().await.unwrap().value, Some(guard.token()));
    assert!(lock.acquire_within(Duration::ZERO).await.unwrap_err().is_conflict());
    assert!(lock.acquire_within(Duration::from_millis(50)).await.unwrap_err().is_conflict());
    let token = guard.token();
    guard.release().await.unwrap();
    assert!(lock.acquire_within(Duration::ZERO).await.unwrap().token() > token);
}

async fn map(cluster: &Cluster) {
    let map = cluster.map("m");
    for n in 0..20 {
        map.put(&format!("key-{n}"), "x").await.unwrap();
    }
    assert_eq!(map.size().await.unwrap().value, 20);
    let first = map.insert("a", "1").await.unwrap().value.version;
    assert!(map.insert("a", "1").await.unwrap_err().is_already_exists());
    let second = map.put_with("a", "2", Write::over(first)).await.unwrap().value;
    assert_eq!(second.previous.expect("replaced").version, first);
    assert!(map.put_with("a", "3", Write::over(first)).await.unwrap_err().is_conflict());
    assert!(map.update_with("a", "3", Write::over(first)).await.unwrap_err().is_conflict());
    assert!(map.update("missing", "3").await.unwrap_err().is_not_found());
    let third = map.update("a", "3").await.unwrap().value.version;
    let present = map.get("a").await.unwrap().value.expect("there");
    assert_eq!((&present.value[..], present.version), (&b"3"[..], third));
    assert_eq!(map.get("missing").await.unwrap().value, None);
    assert!(map.remove_if("a", Some(first)).await.unwrap_err().is_conflict());
    assert_eq!(map.remove("a").await.unwrap().value, Some(present));
    assert!(map.remove("a").await.unwrap_err().is_not_found());

    map.insert_with("brief", "x", Some(Duration::from_millis(50))).await.unwrap();
    while map.get("brief").await.unwrap().value.is_some() {}
    map.put_with("long", "x", Write::with_ttl(Duration::from_secs(3600))).await.unwrap();

    let locked = map.lock(["a", "b", "c", "d"], None).await.unwrap();
    let again = map.lock(["c"], Some(Duration::ZERO)).await;
    assert!(again.err().expect("it is locked").is_conflict());
    map.put("c", "locks keep nobody from writing").await.unwrap();
    locked.unlock().await.unwrap();
    drop(map.lock(["c"], Some(Duration::ZERO)).await.unwrap());
    map.clear().await.unwrap();
    assert_eq!(map.local().size().await.unwrap().value, 0);
}

async fn multi_map(cluster: &Cluster) {
    let map = cluster.multi_map("mm");
    map.put("a", "1").await.unwrap();
    assert!(map.put("a", "1").await.unwrap_err().is_already_exists());
    assert!(map.put_all("a", ["1", "3", "2"]).await.unwrap().value);
    assert!(!map.put_all("a", ["1", "3"]).await.unwrap().value);
    assert_eq!(map.get("a").await.unwrap().value, ["1", "2", "3"]);
    assert!(map.contains("a", "2").await.unwrap().value);
    assert!(!map.contains("b", "2").await.unwrap().value);
    let entries = (0..10).map(|n| (format!("key-{n}"), vec!["x", "y"]));
    let put = map.put_entries(entries.clone()).await.unwrap();
    assert!(put.value && put.indexes.len() > 1, "{put:?}");
    assert_eq!(map.size().await.unwrap().value, 11);
    assert!(map.remove_entries(entries.clone()).await.unwrap().value);
    assert!(!map.remove_entries(entries).await.unwrap().value);
    map.remove("a", "2").await.unwrap();
    assert!(map.remove("a", "2").await.unwrap_err().is_not_found());
    assert!(map.remove_all("a", ["2", "3"]).await.unwrap().value);
    assert!(map.remove_all("b", ["2"]).await.unwrap_err().is_not_found());
    assert_eq!(map.replace("a", ["7"]).await.unwrap().value, ["1"]);
    assert_eq!(map.local().get("a").await.unwrap().value, ["7"]);
    let map = cluster.multi_map("mm");
    map.clear().await.unwrap();
    assert_eq!(map.size().await.unwrap().value, 0);
}

async fn set(cluster: &Cluster) {
    let set = cluster.set("s");
    for n in 0..20 {
        assert!(set.add(&format!("element-{n}")).await.unwrap().value);
    }
    assert!(!set.add("element-3").await.unwrap().value);
    assert_eq!(set.size().await.unwrap().value, 20);
    assert!(set.remove("element-3").await.unwrap().value);
    assert!(!set.remove("element-3").await.unwrap().value);
    assert!(!set.contains("element-3").await.unwrap().value);
    set.add_with("brief", Some(Duration::from_millis(50))).await.unwrap();
    while set.contains("brief").await.unwrap().value {}
    assert!(cluster.set("s").local().contains("element-4").await.unwrap().value);
    set.clear().await.unwrap();
    assert_eq!(set.size().await.unwrap().value, 0);
}

async fn value(cluster: &Cluster) {
    let value = cluster.value("v");
    assert_eq!(value.get().await.unwrap().value, None);
    assert!(value.update("x", Write::default()).await.unwrap_err().is_not_found());
    assert!(value.delete(None).await.unwrap_err().is_not_found());
    let first = value.insert("1", None).await.unwrap().value.version;
    assert!(value.insert("1", None).await.unwrap_err().is_already_exists());
    let second = value.set("2").await.unwrap().value;
    assert_eq!(second.previous.expect("replaced").version, first);
    assert!(value.update("3", Write::over(first)).await.unwrap_err().is_conflict());
    let third = value.update("3", Write::over(second.version)).await.unwrap().value.version;
    assert!(value.delete(Some(first)).await.unwrap_err().is_conflict());
    let present = value.get().await.unwrap().value;
    assert_eq!(present.as_ref().expect("there").version, third);
    assert_eq!(value.delete(Some(third)).await.unwrap().value, present);
    value.set_with("brief", Some(Duration::from_millis(50))).await.unwrap();
    while value.clone().local().get().await.unwrap().value.is_some() {}
}
