//! Configuration: a YAML file, flags over it, defaults under it.

use crate::tls::{Tls, TlsFlags};
use anyhow::{Context as _, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// One node of a Multiraft cluster.
///
/// Exit codes: 0 stopped in order; 2 wrong flags, configuration or a port in use; 3 the data
/// directory cannot be used; 4 the node broke while running (disk) and must not go on; 5 the data
/// directory is damaged.
#[derive(Debug, Default, Parser)]
#[command(name = "multiraft-node", version, verbatim_doc_comment)]
pub struct Flags {
    /// YAML file; flags take precedence over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, print what would be used, and exit.
    #[arg(long)]
    pub check: bool,
    /// Directory of this node alone; made when it does not exist [default: data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients are served [default: 0.0.0.0:5678].
    #[arg(long, value_name = "HOST:PORT")]
    pub client_address: Option<String>,
    /// Where peers are served [default: 0.0.0.0:5679].
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_address: Option<String>,
    /// Probes and metrics [default: 0.0.0.0:8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub http_address: Option<String>,
    /// Host that peers and clients reach this node by [default: client address, or host name].
    #[arg(long, value_name = "HOST")]
    pub advertise_host: Option<String>,
    /// Least time without a leader before an election, such as 1s [default: 1s].
    #[arg(long, value_name = "TIME")]
    pub election_timeout: Option<String>,
    /// Period of a leader's heartbeats [default: 100ms].
    #[arg(long, value_name = "TIME")]
    pub heartbeat: Option<String>,
    /// A group's log is trimmed behind a new snapshot when it has grown by this many bytes, or by
    /// the size of the last snapshot if that is more [default: 4194304].
    #[arg(long, value_name = "BYTES")]
    pub snapshot_log_bytes: Option<u64>,
    /// How the log is written [default: text].
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    #[command(flatten)]
    pub tls: TlsFlags,
}

/// Snapshots more often than this would be all that a node does.
const SNAPSHOT_LOG_BYTES_MIN: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A time such as `1s` or `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub data_dir: PathBuf,
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    pub advertise_host: String,
    #[serde(deserialize_with = "election_timeout")]
    pub election_timeout: Time,
    #[serde(deserialize_with = "heartbeat")]
    pub heartbeat: Time,
    pub snapshot_log_bytes: u64,
    pub log: Log,
    pub tls: Tls,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: "info".into() }
    }
}

impl Log {
    /// A single word would pass as a filter for a module of that name, and nothing would be logged.
    fn check(&self) -> anyhow::Result<()> {
        let level = self.level.as_str();
        if matches!(level, "off" | "error" | "warn" | "info" | "debug" | "trace") {
            return Ok(());
        }
        if !level.contains('=') || tracing_subscriber::EnvFilter::try_new(level).is_err() {
            bail!(
                "log.level: {level} is no level; use off, error, warn, info, debug, trace, or a \
                 filter such as info,multiraft_host=debug"
            );
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: "data".into(),
            client_address: "0.0.0.0:5678".into(),
            peer_address: "0.0.0.0:5679".into(),
            http_address: "0.0.0.0:8080".into(),
            advertise_host: String::new(),
            election_timeout: Time(Duration::from_secs(1)),
            heartbeat: Time(Duration::from_millis(100)),
            snapshot_log_bytes: multiraft_host::limits::SNAPSHOT_LOG_BYTES,
            log: Log::default(),
            tls: Tls::default(),
        }
    }
}

impl Config {
    /// File, then flags; checked as a whole.
    pub fn load(flags: &Flags) -> anyhow::Result<Config> {
        let mut config = match &flags.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read configuration {}", path.display()))?;
                Config::parse(&text).with_context(|| format!("configuration {}", path.display()))?
            }
        };
        config.override_by(flags)?;
        config.check()?;
        Ok(config)
    }

    /// A file's text alone, checked as a whole.
    pub fn read(text: &str) -> anyhow::Result<Config> {
        let mut config = Config::parse(text)?;
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str) -> anyhow::Result<Config> {
        if text.trim().is_empty() {
            return Ok(Config::default());
        }
        Ok(serde_yaml::from_str(text)?)
    }

    fn override_by(&mut self, flags: &Flags) -> anyhow::Result<()> {
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                field.clone_from(value);
            }
        }
        set(&mut self.data_dir, &flags.data_dir);
        set(&mut self.client_address, &flags.client_address);
        set(&mut self.peer_address, &flags.peer_address);
        set(&mut self.http_address, &flags.http_address);
        set(&mut self.advertise_host, &flags.advertise_host);
        set(&mut self.snapshot_log_bytes, &flags.snapshot_log_bytes);
        set(&mut self.log.format, &flags.log_format);
        set(&mut self.log.level, &flags.log_level);
        self.tls.override_by(&flags.tls);
        for (name, flag, field) in [
            ("--election-timeout", &flags.election_timeout, &mut self.election_timeout),
            ("--heartbeat", &flags.heartbeat, &mut self.heartbeat),
        ] {
            if let Some(text) = flag {
                *field = Time::parse(text).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if self.data_dir.as_os_str().is_empty() {
            bail!("data_dir: must not be empty");
        }
        for (key, address) in [
            ("client_address", &self.client_address),
            ("peer_address", &self.peer_address),
            ("http_address", &self.http_address),
        ] {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                bail!("{key}: {address} is not host:port with a port up to 65535");
            }
        }
        if self.heartbeat.0 < Duration::from_millis(10) {
            bail!("heartbeat: {} is shorter than 10ms", self.heartbeat);
        }
        if self.election_timeout.0 / 5 < self.heartbeat.0 {
            bail!(
                "election_timeout: {} is less than 5 heartbeats of {}",
                self.election_timeout,
                self.heartbeat
            );
        }
        if self.snapshot_log_bytes < SNAPSHOT_LOG_BYTES_MIN {
            bail!("snapshot_log_bytes: must be at least {SNAPSHOT_LOG_BYTES_MIN}");
        }
        if self.advertise_host.is_empty() {
            self.advertise_host = self.default_host()?;
        }
        let host = &self.advertise_host;
        let bare = !host.starts_with('[') && host.contains(':');
        if bare || host.len() > 253 || host.contains(|c: char| c.is_whitespace() || c == '/') {
            bail!("advertise_host: {host} is no host; give a name or address without a port");
        }
        self.log.check()?;
        self.tls.check()
    }

    /// The client address' own host, or this machine's name when it listens everywhere.
    fn default_host(&self) -> anyhow::Result<String> {
        let host = self.client_address.rsplit_once(':').map_or("", |(host, _)| host);
        if !matches!(host, "" | "0.0.0.0" | "[::]") {
            return Ok(host.to_owned());
        }
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match name.trim() {
            "" => bail!("advertise_host: must be set, this machine has no name"),
            name => Ok(name.to_owned()),
        }
    }

    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).unwrap_or_default()
    }
}

impl Time {
    fn parse(text: &str) -> Result<Time, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 =
            digits.parse().map_err(|_| format!("{text} is no time, write 1s or 250ms"))?;
        match unit {
            "ms" => Ok(Time(Duration::from_millis(number))),
            "s" => Ok(Time(Duration::from_secs(number))),
            _ => Err(format!("{text} is no time, write 1s or 250ms")),
        }
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a time of the file. The parser knows the key only of errors that it raises itself.
fn time<'de, D: serde::Deserializer<'de>>(key: &str, from: D) -> Result<Time, D::Error> {
    let text = String::deserialize(from)?;
    Time::parse(&text).map_err(|e| serde::de::Error::custom(format!("{key}: {e}")))
}

fn election_timeout<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
    time("election_timeout", from)
}

fn heartbeat<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
    time("heartbeat", from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(yaml: &str) -> Result<Config, String> {
        Config::read(yaml).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn wrong_configuration_names_the_key() {
        for (yaml, words) in [
            ("data_dirr: x", "unknown field `data_dirr`"),
            ("data_dir: [1]", "data_dir"),
            ("data_dir: ''", "data_dir: must not be empty"),
            ("client_address: 1.2.3.4", "client_address: 1.2.3.4 is not host:port"),
            ("peer_address: h:70000", "peer_address"),
            ("election_timeout: soon", "election_timeout: soon is no time"),
            ("heartbeat: fast", "heartbeat: fast is no time"),
            ("election_timeout: 400ms", "less than 5 heartbeats of 100ms"),
            ("heartbeat: 1ms", "heartbeat: 1ms is shorter"),
            ("heartbeat: 18446744073709551615s", "less than 5 heartbeats"),
            ("log: {format: xml}", "unknown variant `xml`"),
            ("log: {colour: red}", "unknown field `colour`"),
            ("log: {level: loud}", "log.level: loud is no level"),
            ("log: {level: 'a=loud'}", "log.level: a=loud is no level"),
            ("advertise_host: h:5678", "advertise_host: h:5678 is no host"),
            ("data_dir: a\nheartbeat: [1]", "at line 2"),
            ("- a", "invalid type"),
            ("tls: {mode: Strict}", "tls.cluster: must be set"),
            ("tls: {mode: Strict, cluster: a/b}", "tls.cluster: a/b is no name"),
            ("tls: {mode: Strict, cluster: a, operators: a/b}", "tls.operators: a/b is no name"),
            ("tls: {mode: Permissive, cluster: a}", "tls.certificate: must be set"),
            ("tls: {mode: Strict, cluster: a, certificate: c, key: k}", "tls.ca: must be set"),
            ("tls: {mode: strict}", "unknown variant `strict`, expected one of `Disabled`"),
            ("tls: {cert: c}", "unknown field `cert`"),
            ("tls: {peers: {cert: c}}", "unknown field `cert`"),
            (
                "tls: {mode: Strict, cluster: a, certificate: c, key: k, ca: a, peers: {key: k}}",
                "tls.peers.certificate: must be set where tls.peers.key is",
            ),
        ] {
            let error = load(yaml).unwrap_err();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }

    #[test]
    fn levels_and_filters_are_accepted() {
        for level in ["info", "off", "warn,multiraft_host=debug"] {
            load(&format!("log: {{level: '{level}'}}")).unwrap();
        }
    }

    #[test]
    fn defaults_survive_a_round_trip_and_flags_win() {
        let config = load("").unwrap();
        assert_eq!(load(&config.to_yaml()).unwrap(), config);
        let flags = Flags {
            client_address: Some("127.0.0.1:1".into()),
            election_timeout: Some("2s".into()),
            ..Default::default()
        };
        let config = Config::load(&flags).unwrap();
        assert_eq!(config.advertise_host, "127.0.0.1");
        assert_eq!(config.election_timeout, Time(Duration::from_secs(2)));
    }
}
