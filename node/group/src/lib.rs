//! multiraft-group
