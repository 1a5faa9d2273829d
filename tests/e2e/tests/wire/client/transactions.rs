//! Writes to several partitions that happen together or not at all.

use multiraft_client::{Map, Version, Write, position};

use super::{GROUPS, connect, three};

/// One key for each partition.
fn keys() -> Vec<String> {
    let in_partition = |wanted: usize| {
        let mut keys = (0..).map(|n| format!("key-{n}"));
        keys.find(|key| position(key.as_bytes(), GROUPS as usize) == wanted)
    };
    (0..GROUPS as usize).filter_map(in_partition).collect()
}

async fn values(map: &Map, keys: &[String]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for key in keys {
        let entry = map.get(key).await.unwrap().value;
        values.push(entry.map(|entry| String::from_utf8(entry.value.to_vec()).expect("text")));
    }
    values
}

#[tokio::test]
async fn a_transaction_over_partitions_happens_as_a_whole() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let (map, keys) = (cluster.map("m"), keys());
    let [a, b, c, d] = &keys[..] else { panic!("{keys:?}") };
    map.put(a, "old").await.unwrap();
    map.put(b, "old").await.unwrap();
    let version = map.get(a).await.unwrap().value.expect("put").version;

    let changes = map
        .transaction()
        .update(a, "new", Write::over(version))
        .remove(b, None)
        .insert(c, "new", None)
        .put(d, "new", Write::default())
        .commit()
        .await
        .unwrap();

    let new = || Some("new".to_owned());
    assert_eq!(values(&map, &keys).await, [new(), None, new(), new()]);
    assert_eq!(changes.len(), 4);
    assert_eq!(changes[0].previous.as_ref().map(|p| p.version), Some(version));
    assert_eq!((changes[1].version, changes[1].previous.is_some()), (None, true));
    assert!(changes[2].previous.is_none() && changes[3].version.is_some());
}

#[tokio::test]
async fn a_conflict_in_one_partition_leaves_all_as_they_were() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let (map, keys) = (cluster.map("m"), keys());
    map.put(&keys[3], "old").await.unwrap();

    let refused = map
        .transaction()
        .put(&keys[0], "new", Write::default())
        .insert(&keys[1], "new", None)
        .put(&keys[2], "new", Write::default())
        .put(&keys[3], "new", Write::over(Version(999_999)))
        .commit()
        .await;

    assert!(refused.expect_err("another version").is_conflict());
    assert_eq!(values(&map, &keys).await, [None, None, None, Some("old".into())]);
    for key in &keys {
        map.put(key, "later").await.expect("no key is locked by what was undone");
    }
}

#[tokio::test]
async fn a_transaction_in_one_partition_is_one_command() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let map = cluster.map("m");
    let mut here = (0..).map(|n| format!("key-{n}")).filter(|key| position(key.as_bytes(), 4) == 2);
    let (a, b) = (here.next().expect("many"), here.next().expect("many"));
    let transaction = map.transaction().insert(&a, "1", None).insert(&b, "2", None);
    let changes = transaction.commit().await.unwrap();
    assert_eq!(changes[0].version, changes[1].version, "written by the same command");
    let twice = map.transaction().put(&a, "3", Write::default()).remove(&a, None);
    assert!(twice.commit().await.expect_err("a key twice").is_conflict());
    assert_eq!(map.transaction().commit().await.unwrap(), []);
    assert_eq!(map.get(&a).await.unwrap().value.expect("unchanged").value, "1");
}
