//! multiraft-client
