//! multiraft-e2e
