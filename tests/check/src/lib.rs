//! multiraft-check
