//! multiraft-machine
