//! multiraft-host
