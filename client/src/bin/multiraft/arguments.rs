//! What can be asked on the command line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use multiraft_client::{Administration, Tls};

use crate::actions::{GroupAction, NodeAction, PrimitiveAction, QuotaAction, SessionAction};
use crate::primitives::counter::CounterAction;
use crate::primitives::counter_map::CounterMapAction;
use crate::primitives::election::ElectionAction;
use crate::primitives::indexed_map::IndexedMapAction;
use crate::primitives::lock::LockAction;
use crate::primitives::map::MapAction;
use crate::primitives::multi_map::MultiMapAction;
use crate::primitives::set::SetAction;
use crate::primitives::value::ValueAction;
use crate::report::Failure;
use crate::resource::ClusterAction;

const ENDPOINT: &str = "127.0.0.1:5678";

pub const PORT_FORWARD: &str = "no endpoints: forward a port of a node to this machine, such as\n  \
    kubectl port-forward pod/<cluster>-0 5678\nand pass --endpoints 127.0.0.1:5678, or set \
    MULTIRAFT_ENDPOINTS. Where one node does not know all groups, pass their number with --groups.";

const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  the cluster rejected it, or there is no such entry\n  \
    2  the command line or the input is wrong\n  \
    3  no answer: nodes down, unreachable, or without a majority; or a lock was lost\n  \
    `hold` and `campaign` pass on the exit code of their command\n\n\
    Environment:\n  \
    MULTIRAFT_ENDPOINTS  as --endpoints\n  \
    MULTIRAFT_TLS_CA, MULTIRAFT_TLS_CERT, MULTIRAFT_TLS_KEY, MULTIRAFT_TLS_SERVER_NAME\n  \
    \x20                    as --tls-ca and so on\n  \
    MULTIRAFT_LOG        what to log on standard error, such as debug";

const TOP_HELP: &str = "Examples:\n  \
    multiraft top                     until Ctrl-C, refreshed each second\n  \
    multiraft top --once -o json      one picture for a script\n\n\
    Colours are left out when NO_COLOR is set or the output is no terminal.";

/// Commands and reads, and the administration of the nodes of a Multiraft cluster.
#[derive(Parser)]
#[command(name = "multiraft", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Arguments {
    /// host:port of nodes, separated by commas [default: 127.0.0.1:5678]
    #[arg(long, global = true, env = "MULTIRAFT_ENDPOINTS", value_delimiter = ',')]
    pub endpoints: Option<Vec<String>>,

    /// How answers are written
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// Time for one call with all its retries, such as 500ms, 30s or 2m
    #[arg(long, global = true, default_value = "30s", value_parser = duration)]
    pub timeout: Duration,

    /// Namespace of the primitives
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub primitive_namespace: String,

    /// Number of groups: of `dev` the number to make [default: 16], elsewhere needed only where too
    /// few nodes can be reached to learn it
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub groups: Option<u32>,

    #[command(flatten)]
    pub tls: TlsArguments,

    #[command(subcommand)]
    pub command: Command,
}

/// Without any of them nodes are spoken to in plain text.
#[derive(Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArguments {
    /// CAs of the nodes in PEM: connects under TLS
    #[arg(long, global = true, env = "MULTIRAFT_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Certificate to show, in PEM
    #[arg(long, global = true, env = "MULTIRAFT_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Its private key, in PEM
    #[arg(long, global = true, env = "MULTIRAFT_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Name in the nodes' certificates, where it is not the host of the endpoint
    #[arg(long, global = true, env = "MULTIRAFT_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl TlsArguments {
    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let Self { tls_ca, tls_cert, tls_key, tls_server_name } = self;
        let Some(ca) = tls_ca else {
            if tls_cert.is_some() || tls_key.is_some() || tls_server_name.is_some() {
                return Err(Failure::usage(
                    "--tls-ca: must be given with the other TLS options: whose nodes to trust",
                ));
            }
            return Ok(None);
        };
        let tls = Tls::new(ca);
        let tls = match (tls_cert, tls_key) {
            (Some(certificate), Some(key)) => tls.certificate(certificate, key),
            (None, None) => tls,
            (Some(_), None) => {
                return Err(Failure::usage("--tls-key: must be given with --tls-cert"));
            }
            (None, Some(_)) => {
                return Err(Failure::usage("--tls-cert: must be given with --tls-key"));
            }
        };
        Ok(Some(match tls_server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[value(alias = "text")]
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand)]
pub enum Command {
    /// Signed 64-bit numbers
    Counter {
        #[command(subcommand)]
        action: CounterAction,
    },
    /// Maps from strings to signed 64-bit numbers
    #[command(name = "countermap", alias = "counter-map")]
    CounterMap {
        #[command(subcommand)]
        action: CounterMapAction,
    },
    /// Elections of a leader among candidates
    Election {
        #[command(subcommand)]
        action: ElectionAction,
    },
    /// Maps from strings to bytes that keep the order of their entries
    #[command(name = "indexedmap", alias = "indexed-map")]
    IndexedMap {
        #[command(subcommand)]
        action: IndexedMapAction,
    },
    /// Locks that one client at a time holds
    Lock {
        #[command(subcommand)]
        action: LockAction,
    },
    /// Maps from strings to bytes
    Map {
        #[command(subcommand)]
        action: MapAction,
    },
    /// Maps from strings to sets of strings
    #[command(name = "multimap", alias = "multi-map")]
    MultiMap {
        #[command(subcommand)]
        action: MultiMapAction,
    },
    /// Sets of strings
    Set {
        #[command(subcommand)]
        action: SetAction,
    },
    /// Values of bytes, one each
    Value {
        #[command(subcommand)]
        action: ValueAction,
    },
    /// The nodes: what they are, planned absence, what they hold
    Node {
        #[command(subcommand)]
        action: NodeAction,
    },
    /// The groups, which are the partitions of the data: leaders and members
    Group {
        #[command(subcommand)]
        action: GroupAction,
    },
    /// Sessions of clients: who they are, and their end
    Session {
        #[command(subcommand)]
        action: SessionAction,
    },
    /// Primitives of all types: what there is, and its end
    Primitive {
        #[command(subcommand)]
        action: PrimitiveAction,
    },
    /// Limits of what namespaces may take
    Quota {
        #[command(subcommand)]
        action: QuotaAction,
    },
    /// Clusters as Kubernetes knows them: status, places, pause, decommission, recovery, a dump
    Cluster {
        #[command(subcommand)]
        action: ClusterAction,
    },
    /// Watch the cluster: who leads, how much, how fast, how far behind
    #[command(after_help = TOP_HELP)]
    Top(TopOptions),
    /// Run a cluster on this machine, until Ctrl-C
    Dev(DevOptions),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Args, Clone, Copy)]
pub struct TopOptions {
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// Time between two pictures, over which rates are taken
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    pub interval: Duration,
}

#[derive(Args)]
pub struct DevOptions {
    /// Number of nodes; odd numbers survive the loss of a minority
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Client port of the first node; the nodes use ten ports each from here on
    #[arg(long, default_value_t = 5678, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub port: u16,
    /// Keep data here, for the next start; otherwise it is removed at the end
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The program of a node [default: multiraft-node beside this one, or in PATH]
    #[arg(long, value_name = "FILE", env = "MULTIRAFT_NODE")]
    pub node_program: Option<PathBuf>,
}

/// How to reach the cluster.
pub struct Reach {
    pub endpoints: Vec<String>,
    pub timeout: Duration,
    pub namespace: String,
    pub groups: Option<usize>,
    pub tls: Option<Tls>,
    pub administration: Administration,
}

impl Arguments {
    pub fn reach(&self) -> Result<Reach, Failure> {
        let tls = self.tls.tls()?;
        Ok(Reach {
            endpoints: self.endpoints.clone().unwrap_or_else(|| vec![ENDPOINT.into()]),
            timeout: self.timeout,
            namespace: self.primitive_namespace.clone(),
            groups: self.groups.map(|groups| groups as usize),
            administration: Administration::new(tls.clone()),
            tls,
        })
    }
}

/// Started as `kubectl multiraft`: kubectl runs the file `kubectl-multiraft`.
pub fn is_plugin(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_stem());
    name.is_some_and(|name| name == "kubectl-multiraft")
}

pub fn command(plugin: bool) -> clap::Command {
    let command = Arguments::command();
    if plugin {
        command.name("kubectl-multiraft").bin_name("kubectl multiraft").display_name("multiraft")
    } else {
        command
    }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| "write a number and a unit, such as 30s".to_owned())?;
    let millis = match &text[digits.len()..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err("write a unit: ms, s, m or h".into()),
    };
    match millis {
        Some(millis @ 1..=31_536_000_000_000) => Ok(Duration::from_millis(millis)),
        _ => Err("from 1ms to 1000 years".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command(false).debug_assert();
        command(true).debug_assert();
    }

    /// Lines of blocks that begin with `multiraft`, up to their explanation.
    fn examples(guide: &str) -> Vec<String> {
        let mut inside = false;
        let mut found = Vec::new();
        for line in guide.lines() {
            inside ^= line.starts_with("```");
            let command = line.strip_prefix("$ ").unwrap_or(line);
            let command = command.strip_prefix("kubectl ").unwrap_or(command);
            if inside && command.starts_with("multiraft ") {
                found.push(command.split("  ").next().unwrap_or(command).to_owned());
            }
        }
        found
    }

    #[test]
    fn every_command_of_the_guides_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut count = 0;
        for guide in [
            "README.md",
            "docs/operate.md",
            "docs/primitives.md",
            "docs/client.md",
            "docs/security.md",
        ] {
            let text = std::fs::read_to_string(root.join(guide)).expect("the guide is there");
            for example in examples(&text) {
                let parsed = command(false).try_get_matches_from(example.split(' '));
                assert!(parsed.is_ok(), "{guide}: {example}: {}", parsed.expect_err("it is none"));
                count += 1;
            }
        }
        assert!(count > 15, "only {count} were found");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "0s", "1y", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_name_of_the_program_makes_a_plugin() {
        assert!(is_plugin(Some(OsStr::new("/usr/bin/kubectl-multiraft"))));
        assert!(!is_plugin(Some(OsStr::new("multiraft"))));
    }
}
