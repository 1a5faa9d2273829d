//! multiraft-api
