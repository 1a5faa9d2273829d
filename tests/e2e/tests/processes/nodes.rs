//! Node processes that can be killed and started again where they were.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use multiraft_client::{node_info, node_service, v1};

const BOOTSTRAP: &str = "/atomix.multiraft.v1.Node/Bootstrap";

/// A node answers for itself within this time after its start, on a busy machine too.
const START_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Node {
    folder: PathBuf,
    ports: [u16; 3],
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
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = (0..count).map(|n| Node::new(&folder.path().join(n.to_string()))).collect();
        let mut nodes = Self { nodes, folder };
        nodes.nodes.iter_mut().for_each(Node::start);
        nodes.form(groups, copies).await;
        nodes
    }

    async fn form(&self, groups: u32, copies: usize) {
        let mut members = Vec::new();
        for node in &self.nodes {
            members.push(v1::MemberConfig {
                node_id: node.info().await.node_id,
                host: "127.0.0.1".into(),
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
            let _: v1::BootstrapResponse =
                node_service(&node.address(), BOOTSTRAP, &request, START_TIMEOUT)
                    .await
                    .expect("groups are formed");
        }
    }

    /// All addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Position of the node that leads a group, as the running nodes see it.
    pub async fn leader(&self, group: u32) -> usize {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut newest = (0, 0);
            let mut ids = Vec::new();
            for node in &self.nodes {
                let info = match node.process {
                    Some(_) => node.info().await,
                    None => v1::GetInfoResponse::default(),
                };
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
        Self { folder: folder.to_owned(), ports: ports(), process: None }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"));
        let [client, peer, http] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let process = Command::new(program("multiraft-node"))
            .arg("--data-dir")
            .arg(self.data())
            .args(["--client-address", &client, "--peer-address", &peer])
            .args(["--http-address", &http, "--advertise-host", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the folder is writable"))
            .spawn()
            .expect("the node's program starts");
        self.process = Some(process);
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

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().expect("can be asked"))
    }

    /// Waits until the node answers for itself.
    pub async fn info(&self) -> v1::GetInfoResponse {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match node_info(&self.address(), Duration::from_secs(1)).await {
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
