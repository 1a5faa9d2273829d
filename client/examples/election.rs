//! Two candidates of one election: `cargo run -p multiraft-client --example election`, beside
//! `multiraft dev`.

use multiraft_client::{Cluster, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoints = ["127.0.0.1:5678"];
    let (first, second) = (Cluster::connect(endpoints).await?, Cluster::connect(endpoints).await?);

    let leads = first.election("scheduler").campaign("first").await?;
    println!("{} leads, term {}", leads.candidate(), leads.token());

    // Waits behind it.
    let next = tokio::spawn({
        let election = second.election("scheduler");
        async move { election.campaign("second").await }
    });
    while !second.election("scheduler").term().await?.value.has("second") {}
    println!("{:?}", second.election("scheduler").term().await?.value);

    // A process that ends, or that nobody hears of any more, leads no more.
    first.close().await;
    leads.lost().await;
    let next = next.await.expect("it does not panic")?;
    println!("{} leads, term {}", next.candidate(), next.token());

    next.withdraw().await?;
    second.close().await;
    Ok(())
}
