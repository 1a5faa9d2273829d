//! multiraft-shard
