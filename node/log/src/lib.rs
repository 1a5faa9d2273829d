//! multiraft-log
