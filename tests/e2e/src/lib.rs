//! What the tests on processes and on Kubernetes share: nodes as processes, clients whose history
//! is checked, a network that fails on demand.

mod client;
pub mod load;
pub mod members;
pub mod mixed;
pub mod nodes;
pub mod proxy;
pub mod pulse;
pub mod reads;
