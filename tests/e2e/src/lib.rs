//! Clients whose history is checked; what the tests on processes and on Kubernetes share.

pub mod load;
