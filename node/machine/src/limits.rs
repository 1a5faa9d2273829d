//! Limits of the machine. All of them are constants of the log's format: replicas that disagreed on
//! one would diverge, so none is ever configuration.
