//! multiraft-controller
