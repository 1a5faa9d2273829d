//! How many commands a second one client gets done: 256 callers that each increment a counter of
//! their own, one after the other.
//!
//! ```sh
//! multiraft dev --groups 4 &
//! cargo run --release -p multiraft-client --example increments -- 127.0.0.1:5678
//! ```

use std::time::{Duration, Instant};

use multiraft_client::{Cluster, Error};

const CALLERS: usize = 256;
const TIME: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let endpoints: Vec<String> = std::env::args().skip(1).collect();
    let cluster = Cluster::connect(endpoints).await?;
    let counters: Vec<_> = (0..CALLERS).map(|n| cluster.counter(format!("c-{n}"))).collect();
    for counter in &counters {
        counter.increment(1).await?;
    }
    let began = Instant::now();
    let callers: Vec<_> = counters
        .into_iter()
        .map(|counter| {
            tokio::spawn(async move {
                let mut done = 0;
                while began.elapsed() < TIME {
                    counter.increment(1).await?;
                    done += 1;
                }
                Ok::<_, Error>(done)
            })
        })
        .collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.expect("no caller panics")?;
    }
    println!("{:.0} commands/s", f64::from(done) / began.elapsed().as_secs_f64());
    cluster.close().await;
    Ok(())
}
