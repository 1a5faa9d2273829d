//! multiraft-plan
