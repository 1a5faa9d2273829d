//! Writes, reads and protects an entry: `cargo run -p multiraft-client --example map`, beside
//! `multiraft dev`.

use std::time::Duration;

use multiraft_client::{Cluster, Error, Write};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let cluster = Cluster::connect(["127.0.0.1:5678"]).await?;
    let users = cluster.map("users");

    users.clear().await?;
    users.put("ada", "analyst").await?;
    users.put("charles", "engineer").await?;
    println!("{} users", users.size().await?.value);

    // Change an entry only if nobody did since it was read.
    let ada = users.get("ada").await?.value.expect("just put");
    let unchanged = Write::over(ada.version);
    users.update_with("ada", "programmer", unchanged).await?;
    match users.update_with("ada", "countess", unchanged).await {
        Err(Error::Rejected(rejection)) => println!("as expected: {rejection}"),
        other => println!("unexpected: {other:?}"),
    }

    // An entry that removes itself.
    let brief = Write::with_ttl(Duration::from_secs(60));
    users.put_with("guest", "for a minute", brief).await?;

    // Writes that happen together or not at all, wherever their keys live.
    let swap = users.transaction().remove("charles", None).insert("babbage", "engineer", None);
    println!("{:?}", swap.commit().await?);
    match users.transaction().remove("babbage", None).insert("ada", "twice", None).commit().await {
        Err(error) if error.is_already_exists() => println!("as expected: {error}"),
        other => println!("unexpected: {other:?}"),
    }
    println!("{} users", users.size().await?.value);

    cluster.close().await;
    Ok(())
}
