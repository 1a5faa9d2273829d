//! multiraft-shard

mod member;
pub use member::{Fence, GroupSpec, Member, Role};
