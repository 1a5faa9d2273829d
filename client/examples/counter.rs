//! Counts to three: `cargo run -p multiraft-client --example counter`, beside `multiraft dev`.

use multiraft_client::{Cluster, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let cluster = Cluster::connect(["127.0.0.1:5678"]).await?;
    let visits = cluster.counter("visits");

    visits.set(0).await?;
    for _ in 0..3 {
        let answer = visits.increment(1).await?;
        println!("{} (partition {}, index {})", answer.value, answer.partition, answer.index);
    }

    // A comparison that fails is an answer like any other, the same on every node.
    match visits.update(17, 18).await {
        Err(Error::Rejected(rejection)) => println!("as expected: {rejection}"),
        other => println!("unexpected: {other:?}"),
    }

    cluster.close().await;
    Ok(())
}
