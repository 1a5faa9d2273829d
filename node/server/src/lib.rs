//! multiraft-server
