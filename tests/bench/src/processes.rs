//! Three nodes of each system on loopback, gone with the value that holds them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use multiraft_proto::v1;
use tokio::time::Instant;

use crate::{etcd, ours};

pub const OURS: &str = "multiraft-node";
pub const ETCD: &str = "etcd";
pub const NODES: usize = 3;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_PERIOD: Duration = Duration::from_millis(100);

/// Processes that end, killed, when this is dropped; their data goes with their directory.
pub struct Cluster {
    processes: Vec<Child>,
    pub endpoints: Vec<String>,
    _data: tempfile::TempDir,
}

impl Cluster {
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }

    /// Three nodes of ours with their groups formed and led.
    pub async fn ours(program: &Path, dir: &Path, groups: u32) -> anyhow::Result<Self> {
        let data = directory(dir, OURS)?;
        let ports = ports(3 * NODES)?;
        let mut cluster = Self { processes: vec![], endpoints: vec![], _data: data };
        for node in ports.chunks(3) {
            let address = |port: u16| format!("127.0.0.1:{port}");
            let mut command = Command::new(program);
            command
                .args(["--client-address", &address(node[0])])
                .args(["--peer-address", &address(node[1])])
                .args(["--http-address", &address(node[2])])
                .args(["--advertise-host", "127.0.0.1", "--log-level", "error", "--data-dir"]);
            cluster.start(command, node[0])?;
            cluster.endpoints.push(address(node[0]));
        }
        cluster.form(&ports, groups).await?;
        Ok(cluster)
    }

    /// Three members of etcd with a leader.
    pub async fn etcd(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let data = directory(dir, ETCD)?;
        let ports = ports(2 * NODES)?;
        let mut cluster = Self { processes: vec![], endpoints: vec![], _data: data };
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<String> =
            ports.chunks(2).map(|node| format!("n{}={}", node[0], url(node[1]))).collect();
        let members = members.join(",");
        for node in ports.chunks(2) {
            let mut command = Command::new(program);
            command
                .args(["--name", &format!("n{}", node[0])])
                .args(["--listen-client-urls", &url(node[0])])
                .args(["--advertise-client-urls", &url(node[0])])
                .args(["--listen-peer-urls", &url(node[1])])
                .args(["--initial-advertise-peer-urls", &url(node[1])])
                .args(["--initial-cluster", &members])
                .args(["--initial-cluster-state", "new", "--log-level", "error", "--data-dir"]);
            cluster.start(command, node[0])?;
            cluster.endpoints.push(url(node[0]));
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while etcd::leader(&cluster.endpoints).await.is_none() {
            cluster.wait(deadline, "etcd has no leader").await?;
        }
        Ok(cluster)
    }

    /// The data directory is the command's last argument.
    fn start(&mut self, mut command: Command, name: u16) -> anyhow::Result<()> {
        let folder = self._data.path().join(name.to_string());
        let log = std::fs::File::create(self._data.path().join(format!("{name}.log")))?;
        let child = command
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        self.processes.push(child);
        Ok(())
    }

    async fn form(&mut self, ports: &[u16], groups: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut members = Vec::new();
        for (number, node) in (1..).zip(ports.chunks(3)) {
            let endpoint = format!("127.0.0.1:{}", node[0]);
            let info = loop {
                match ours::node_info(&endpoint).await {
                    Ok(info) => break info,
                    Err(_) => self.wait(deadline, "a node does not answer").await?,
                }
            };
            members.push(v1::MemberConfig {
                node_id: info.node_id,
                host: "127.0.0.1".into(),
                port: node[1].into(),
                role: v1::MemberRole::Member.into(),
                member_id: number,
            });
        }
        let partition = |partition_id| v1::PartitionConfig {
            partition_id,
            members: members.clone(),
            ..Default::default()
        };
        let partitions = (1..=groups).map(partition).collect();
        let request = v1::BootstrapRequest { partitions, ..Default::default() };
        for endpoint in &self.endpoints {
            ours::bootstrap(endpoint, request.clone()).await.context("form the groups")?;
        }
        while !self.led(groups).await? {
            self.wait(deadline, "groups have no leader").await?;
        }
        Ok(())
    }

    /// Whether all nodes know the leader of every group.
    async fn led(&self, groups: u32) -> anyhow::Result<bool> {
        for endpoint in &self.endpoints {
            let info = ours::node_info(endpoint).await?;
            if info.groups.iter().filter(|group| group.leader != 0).count() != groups as usize {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn wait(&mut self, deadline: Instant, what: &str) -> anyhow::Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                bail!("a process ended: {status}; logs were in {}", self._data.path().display());
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "{what} after {START_TIMEOUT:?}");
        tokio::time::sleep(POLL_PERIOD).await;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended by itself; both calls then say so, and all is well.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn directory(dir: &Path, name: &str) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(dir)?;
    let data = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(dir);
    data.with_context(|| format!("make a directory in {}", dir.display()))
}

/// Free ports, all different; somebody else could take one before its node does.
fn ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    held?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// The node's program: beside this one.
pub fn our_program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name(OURS);
    anyhow::ensure!(
        beside.is_file(),
        "{} is missing: build it with 'cargo build --release -p multiraft-server', or name it with \
         --node-program",
        beside.display()
    );
    Ok(beside)
}

/// etcd: in PATH, or where the project's set-up built it.
pub fn etcd_program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/multiraft"));
    let cache = std::env::var_os("MULTIRAFT_CACHE").map(PathBuf::from).or(home);
    let built = cache.and_then(|cache| std::fs::read_dir(cache.join("kube")).ok());
    let built =
        built.into_iter().flatten().filter_map(|found| Some(found.ok()?.path().join("bin")));
    std::env::split_paths(&path)
        .chain(built)
        .map(|folder| folder.join(ETCD))
        .find(|file| file.is_file())
        .context("etcd is neither in PATH nor in the project's cache: run 'make bench', or name it with --etcd-program")
}
