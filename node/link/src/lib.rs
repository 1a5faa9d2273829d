//! multiraft-link
