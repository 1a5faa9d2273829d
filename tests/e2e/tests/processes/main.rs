//! Clusters of real node processes on this machine, killed under load.
//!
//! The program is the one built beside these tests, or the one in the folder `MULTIRAFT_BIN`.

mod command_line;
mod copies;
mod drains;
mod kills;
mod placement;
