//! Node processes that can be killed and started again where they were.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use multiraft_client::{Administration, Tls, v1};

const BOOTSTRAP: &str = "/atomix.multiraft.v1.Node/Bootstrap";

/// A node answers for itself within this time after its start, on a busy machine too.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A node that says nothing for this long is not counted when a leader is looked for.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// One node: its folder, its addresses, and its process while it runs.
pub struct Node {
    folder: PathBuf,
    /// Where clients reach it, and the host that it tells its peers.
    pub host: String,
    /// Where it listens for peers; another than [`Node::host`] when something stands between.
    pub peer_host: String,
    ports: [u16; 3],
    /// A command that runs the node's program as its last arguments, in its own process.
    pub under: Vec<String>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
    /// How it is asked about itself.
    pub tls: Option<Tls>,
    process: Option<Child>,
}

/// A cluster; its processes and data end with the test.
pub struct Nodes {
    pub nodes: Vec<Node>,
    pub folder: tempfile::TempDir,
}

impl Nodes {
    /// `count` nodes, with each of `groups` on `copies` of them in turn.
    pub async fn formed(count: usize, groups: u32, copies: usize) -> Self {
        let mut nodes = Self::prepared(count);
        nodes.nodes.iter_mut().for_each(Node::start);
        nodes.form(groups, copies).await;
        nodes
    }

    /// Nodes that are not started yet.
    pub fn prepared(count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = (0..count).map(|n| Node::new(&folder.path().join(n.to_string()))).collect();
        Self { nodes, folder }
    }

    /// Forms the groups on nodes that run.
    pub async fn form(&self, groups: u32, copies: usize) {
        let mut members = Vec::new();
        for node in &self.nodes {
            members.push(v1::MemberConfig {
                node_id: node.info().await.node_id,
                host: node.host.clone(),
                port: node.ports[1].into(),
                role: v1::MemberRole::Member.into(),
                ..Default::default()
            });
        }
        let place = |group: u32, copy: usize| (group as usize + copy) % members.len();
        for (position, node) in self.nodes.iter().enumerate() {
            let held = (1..=groups).filter(|g| (0..copies).any(|c| place(*g, c) == position));
            let partitions = held.map(|group| v1::PartitionConfig {
                partition_id: group,
                members: (0..copies)
                    .map(|copy| v1::MemberConfig {
                        member_id: copy as u64 + 1,
                        ..members[place(group, copy)].clone()
                    })
                    .collect(),
                ..Default::default()
            });
            let request =
                v1::BootstrapRequest { partitions: partitions.collect(), ..Default::default() };
            let _: v1::BootstrapResponse = node
                .administration()
                .call(&node.address(), BOOTSTRAP, &request, START_TIMEOUT)
                .await
                .expect("groups are formed");
        }
    }

    /// All addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Position of the node that leads a group, as the nodes that answer see it.
    pub async fn leader(&self, group: u32) -> usize {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut newest = (0, 0);
            let mut ids = Vec::new();
            for node in &self.nodes {
                let asked = match node.process {
                    Some(_) => node.administration().info(&node.address(), ASK_TIMEOUT).await.ok(),
                    None => None,
                };
                let info = asked.unwrap_or_default();
                ids.push(info.node_id);
                let state = info.groups.iter().find(|state| state.group_id == group);
                newest = newest.max(state.map_or((0, 0), |state| (state.term, state.leader)));
            }
            let leader = ids.iter().position(|id| *id == newest.1 && *id != 0);
            if let Some(position) = leader {
                return position;
            }
            assert!(Instant::now() < deadline, "group {group} has no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Node {
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("the temporary folder is writable");
        let host = "127.0.0.1".to_owned();
        Self {
            folder: folder.to_owned(),
            peer_host: host.clone(),
            host,
            ports: ports(),
            under: Vec::new(),
            arguments: Vec::new(),
            tls: None,
            process: None,
        }
    }

    /// Where clients reach the node.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.ports[0])
    }

    /// Where probes and metrics are served.
    pub fn http_address(&self) -> String {
        format!("{}:{}", self.host, self.ports[2])
    }

    /// To ask the node about itself.
    pub fn administration(&self) -> Administration {
        Administration::new(self.tls.clone())
    }

    /// Where the node says that its peers reach it, and where it listens for them.
    pub fn peer_addresses(&self) -> [String; 2] {
        [&self.host, &self.peer_host].map(|host| format!("{host}:{}", self.ports[1]))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the node wrote to its log since it was first started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts the program, again where it was.
    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"));
        let address = |host: &str, port: usize| format!("{host}:{}", self.ports[port]);
        let mut words = self.under.iter().map(Into::into).collect::<Vec<OsString>>();
        words.push(program("multiraft-node").into());
        let process = Command::new(&words[0])
            .args(&words[1..])
            .arg("--data-dir")
            .arg(self.data())
            .args(["--client-address", &address(&self.host, 0)])
            .args(["--peer-address", &address(&self.peer_host, 1)])
            .args(["--http-address", &address(&self.host, 2)])
            .args(["--advertise-host", &self.host])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the folder is writable"))
            .spawn()
            .expect("the node's program starts");
        self.process = Some(process);
    }

    /// Process id of a node that runs.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// Whether it was started and not waited for.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Sends a signal, such as STOP.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success(), "signal {name} for {pid}");
    }

    /// SIGKILL, without waiting for the end.
    pub fn kill(&mut self) {
        let process = self.process.as_mut().expect("the node runs");
        process.kill().expect("a child can be killed");
    }

    /// Waits for the end of a node that was killed.
    pub fn wait(&mut self) {
        let mut process = self.process.take().expect("the node ran");
        process.wait().expect("a child can be waited for");
    }

    /// Waits for a node that ends by itself, and tells how it did.
    pub async fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.ended() {
                self.process = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the node goes on; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().expect("can be asked"))
    }

    /// Waits until the node answers for itself.
    pub async fn info(&self) -> v1::GetInfoResponse {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.administration().info(&self.address(), Duration::from_secs(1)).await {
                Ok(info) => return info,
                Err(error) => {
                    assert!(Instant::now() < deadline, "{error}; its log:\n{}", self.log());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.folder.display(), tail(&self.log()));
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A program of ours: in the folder `MULTIRAFT_BIN`, or as built beside these tests.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let beside = test.ancestors().nth(2).expect("tests are built into <profile>/deps");
    let folder = std::env::var_os("MULTIRAFT_BIN").map_or(beside.to_owned(), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

/// Ports that nobody listens on, below those that the system gives to connections: a node that is
/// started again must find its own still free.
fn ports() -> [u16; 3] {
    let first = port_block();
    [first, first + 1, first + 2]
}

/// The first of 30 such ports: `multiraft dev` uses ten for each of three nodes.
pub fn port_block() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static BLOCKS: AtomicU16 = AtomicU16::new(0);
    loop {
        let block = (std::process::id() + u32::from(BLOCKS.fetch_add(1, Ordering::Relaxed))) % 380;
        let first = 20_000 + 30 * block as u16;
        if (first..first + 30).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}
