//! Protects a file with a lock and its fencing token: `cargo run -p multiraft-client --example lock`,
//! beside `multiraft dev`. Run it twice at the same time.

use std::time::Duration;

use multiraft_client::{Cluster, Error, FencingToken};

/// What the lock protects. It refuses who lost the lock and does not know it yet: a process may stand
/// still for longer than its session lives.
struct Store {
    highest: FencingToken,
}

impl Store {
    fn write(&mut self, text: &str, token: FencingToken) -> Result<(), String> {
        if token < self.highest {
            return Err(format!("token {token} is older than {}", self.highest));
        }
        self.highest = token;
        println!("wrote {text:?} under token {token}");
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let cluster = Cluster::connect(["127.0.0.1:5678"]).await?;
    let lock = cluster.lock("store");
    let mut store = Store { highest: FencingToken(0) };

    println!("waiting for the lock");
    let guard = lock.acquire().await?;
    let first = guard.token();
    tokio::select! {
        () = guard.lost() => println!("lost the lock; whatever is still to do must not be done"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {
            println!("{:?}", store.write("first", first));
        }
    }
    // Does not wait for itself.
    match lock.acquire_within(Duration::ZERO).await {
        Err(error) if error.is_conflict() => println!("as expected: {error}"),
        other => println!("unexpected: {other:?}"),
    }
    guard.release().await?;

    let guard = lock.acquire().await?;
    println!("{:?}", store.write("second", guard.token()));
    println!("as expected: {:?}", store.write("late", first));

    // Releases the lock, too.
    cluster.close().await;
    Ok(())
}
