//! multiraft-bench
