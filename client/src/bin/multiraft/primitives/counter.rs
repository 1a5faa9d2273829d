//! `multiraft counter`

use clap::Subcommand;
use serde_json::json;

use super::{Advice, Read, answered, with};
use crate::arguments::Reach;
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum CounterAction {
    /// Print the value
    Get {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Set the value
    Set {
        name: String,
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Set the value if it is COMPARE
    Update {
        name: String,
        #[arg(allow_negative_numbers = true)]
        compare: i64,
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Add to the value
    Increment {
        name: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        value: i64,
    },
    /// Subtract from the value
    Decrement {
        name: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        value: i64,
    },
}

const ADVICE: Advice = Advice {
    conflict: "read the present value with `multiraft counter get`",
    not_found: "",
    already_exists: "",
};

pub async fn run(reach: &Reach, action: CounterAction) -> Result<Report, Failure> {
    with(reach, |cluster| async move {
        let answer = match action {
            CounterAction::Get { name, read: Read { local: false } } => {
                cluster.counter(name).get().await
            }
            CounterAction::Get { name, .. } => cluster.counter(name).local().get().await,
            CounterAction::Set { name, value } => cluster.counter(name).set(value).await,
            CounterAction::Update { name, compare, value } => {
                cluster.counter(name).update(compare, value).await
            }
            CounterAction::Increment { name, value } => {
                cluster.counter(name).increment(value).await
            }
            CounterAction::Decrement { name, value } => {
                cluster.counter(name).decrement(value).await
            }
        };
        let answer = answer.map_err(|error| ADVICE.of(error))?;
        Ok(answered(answer.value.to_string(), json!({"value": answer.value}), &answer))
    })
    .await
}
