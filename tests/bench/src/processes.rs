//! Three nodes of each system on loopback, gone with the value that holds them.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use multiraft_proto::v1;
use tokio::time::Instant;

use crate::{etcd, ours};

pub const OURS: &str = "multiraft-node";
pub const ETCD: &str = "etcd";
pub const NODES: usize = 3;

/// Also for thousands of groups.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const SIGTERM: i32 = 15;
const POLL_PERIOD: Duration = Duration::from_millis(50);
/// What one Bootstrap takes.
const GROUPS_PER_CALL: usize = 1024;
/// Ports are taken from here on: below those that the system gives to connections, so that a node
/// that starts again finds its own still free.
const PORT_MIN: u16 = 10_000;
const PORT_MAX: u16 = 20_000;

/// A process with its data, which may be started again.
struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    data: PathBuf,
    /// [`None`] while it does not run.
    child: Option<Child>,
}

impl Process {
    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }
}

/// Processes that end, killed, when this is dropped; their data goes with their directory.
pub struct Cluster {
    processes: Vec<Process>,
    /// For clients.
    pub endpoints: Vec<String>,
    pub peer_ports: Vec<u16>,
    /// Of probes and metrics; ours only.
    pub http_ports: Vec<u16>,
    data: tempfile::TempDir,
}

impl Cluster {
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(|p| Some(p.child.as_ref()?.id())).collect()
    }

    /// Three nodes of ours with their groups formed and led.
    pub async fn ours(program: &Path, dir: &Path, groups: u32) -> anyhow::Result<Self> {
        Self::ours_with(program, dir, groups, &[]).await
    }

    /// The same with more arguments for the nodes.
    pub async fn ours_with(
        program: &Path,
        dir: &Path,
        groups: u32,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::empty(dir, OURS)?;
        for _ in 0..NODES {
            cluster.add_ours(program, arguments)?;
        }
        cluster.form(groups).await?;
        Ok(cluster)
    }

    fn empty(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let data = directory(dir, name)?;
        let (endpoints, peer_ports, http_ports) = Default::default();
        Ok(Self { processes: vec![], endpoints, peer_ports, http_ports, data })
    }

    /// Starts one more node, a member of nothing; returns its place.
    pub fn add_ours(&mut self, program: &Path, arguments: &[&str]) -> anyhow::Result<usize> {
        let [client, peer, http] = ports()?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut all = vec!["--client-address".into(), address(client)];
        all.extend(["--peer-address".into(), address(peer)]);
        all.extend(["--http-address".into(), address(http)]);
        all.extend(["--advertise-host", "127.0.0.1", "--log-level", "error"].map(Into::into));
        all.extend(arguments.iter().map(|&argument| argument.into()));
        self.endpoints.push(address(client));
        self.peer_ports.push(peer);
        self.http_ports.push(http);
        self.start(program, all, client)
    }

    /// Three members of etcd with a leader.
    pub async fn etcd(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let mut cluster = Self::empty(dir, ETCD)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let ports: Vec<_> = (0..NODES).map(|_| ports()).collect::<anyhow::Result<_>>()?;
        let members: Vec<String> =
            ports.iter().map(|[client, peer, _]| format!("n{client}={}", url(*peer))).collect();
        let members = members.join(",");
        for [client, peer, _] in ports {
            let arguments = [
                ["--name", &format!("n{client}")],
                ["--listen-client-urls", &url(client)],
                ["--advertise-client-urls", &url(client)],
                ["--listen-peer-urls", &url(peer)],
                ["--initial-advertise-peer-urls", &url(peer)],
                ["--initial-cluster", &members],
                ["--initial-cluster-state", "new"],
                ["--log-level", "error"],
            ];
            let arguments = arguments.concat().into_iter().map(Into::into).collect();
            cluster.endpoints.push(url(client));
            cluster.peer_ports.push(peer);
            cluster.start(program, arguments, client)?;
        }
        cluster.wait_for_etcd().await?;
        Ok(cluster)
    }

    /// Waits until etcd has a leader, and all members that run answer.
    pub async fn wait_for_etcd(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !etcd::is_well(&self.endpoints).await {
            self.wait(deadline, "etcd has no leader").await?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        program: &Path,
        mut arguments: Vec<String>,
        name: u16,
    ) -> anyhow::Result<usize> {
        let data = self.data.path().join(name.to_string());
        arguments.extend(["--data-dir".into(), data.display().to_string()]);
        self.processes.push(Process { program: program.into(), arguments, data, child: None });
        let place = self.processes.len() - 1;
        self.start_again(place)?;
        Ok(place)
    }

    /// Starts a process that has ended.
    pub fn start_again(&mut self, place: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[place];
        let log = std::fs::File::options().create(true).append(true).open(process.log())?;
        let child = Command::new(&process.program)
            .args(&process.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", process.program.display()))?;
        process.child = Some(child);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.processes[place].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; returns when the process has ended.
    pub async fn terminate(&mut self, place: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[place];
        let Some(mut child) = process.child.take() else { return Ok(()) };
        // etcd stops in order, and then lets the signal end it.
        let is_etcd = process.program.ends_with(ETCD);
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        anyhow::ensure!(sent.success(), "kill: {sent}");
        let ended = tokio::task::spawn_blocking(move || child.wait()).await??;
        let in_order = ended.success() || (is_etcd && ended.signal() == Some(SIGTERM));
        anyhow::ensure!(in_order, "asked to stop, a process ended with {ended}");
        Ok(())
    }

    /// A node's arguments from its next start on.
    pub fn set_argument(&mut self, place: usize, name: &str, value: &str) {
        let arguments = &mut self.processes[place].arguments;
        match arguments.iter().position(|argument| argument == name) {
            Some(at) => arguments[at + 1] = value.into(),
            None => arguments.extend([name.into(), value.into()]),
        }
    }

    /// Bytes on disk of one process.
    pub fn disk(&self, place: usize) -> u64 {
        crate::probe::disk(&self.processes[place].data)
    }

    async fn form(&mut self, groups: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut members = Vec::new();
        for place in 0..NODES {
            let endpoint = self.endpoints[place].clone();
            let info = loop {
                match ours::node_info(&endpoint).await {
                    Ok(info) => break info,
                    Err(_) => self.wait(deadline, "a node does not answer").await?,
                }
            };
            members.push(v1::MemberConfig {
                node_id: info.node_id,
                host: "127.0.0.1".into(),
                port: self.peer_ports[place].into(),
                role: v1::MemberRole::Member.into(),
                member_id: place as u64 + 1,
            });
        }
        let partition = |partition_id| v1::PartitionConfig {
            partition_id,
            members: members.clone(),
            ..Default::default()
        };
        let partitions: Vec<_> = (1..=groups).map(partition).collect();
        for partitions in partitions.chunks(GROUPS_PER_CALL) {
            let partitions = partitions.to_vec();
            let request = v1::BootstrapRequest { partitions, ..Default::default() };
            for endpoint in &self.endpoints {
                ours::bootstrap(endpoint, request.clone()).await.context("form the groups")?;
            }
        }
        self.wait_for_leaders(groups).await
    }

    /// Waits until all nodes that run know the leader of every group.
    pub async fn wait_for_leaders(&mut self, groups: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for place in 0..self.processes.len() {
            while self.processes[place].child.is_some() && !self.led(place, groups).await {
                self.wait(deadline, "groups have no leader").await?;
                // The answer on so many groups must not be what the node is busy with.
                tokio::time::sleep(Duration::from_micros(30 * u64::from(groups))).await;
            }
        }
        Ok(())
    }

    /// Whether a node knows the leader of every group.
    async fn led(&self, place: usize, groups: u32) -> bool {
        let Ok(info) = ours::node_info(&self.endpoints[place]).await else { return false };
        info.groups.iter().filter(|group| group.leader != 0).count() == groups as usize
    }

    pub async fn wait(&mut self, deadline: Instant, what: &str) -> anyhow::Result<()> {
        self.check()?;
        anyhow::ensure!(Instant::now() < deadline, "{what} after {START_TIMEOUT:?}");
        tokio::time::sleep(POLL_PERIOD).await;
        Ok(())
    }

    /// An error if a process has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            if let Some(child) = &mut process.child
                && let Some(status) = child.try_wait()?
            {
                let log = std::fs::read_to_string(process.data.with_extension("log"));
                bail!("a process ended: {status}: {}", log.unwrap_or_default());
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let Some(mut child) = process.child.take() else { continue };
            // Its log goes with the directory.
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(process.log()).unwrap_or_default();
                let program = process.program.display();
                eprintln!("{program} ended by itself with {status}; its log:\n{log}");
            }
            // Both calls say so, too, and all is well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn directory(dir: &Path, name: &str) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(dir)?;
    let data = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(dir);
    data.with_context(|| format!("make a directory in {}", dir.display()))
}

/// Free ports for one process; somebody else could take one before it does.
fn ports() -> anyhow::Result<[u16; 3]> {
    static NEXT: AtomicU16 = AtomicU16::new(PORT_MIN);
    loop {
        let first = NEXT.fetch_add(3, Ordering::Relaxed);
        anyhow::ensure!(first < PORT_MAX, "no ports are free from {PORT_MIN} to {PORT_MAX}");
        let ports = [first, first + 1, first + 2];
        if ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return Ok(ports);
        }
    }
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
