//! multiraft-service
