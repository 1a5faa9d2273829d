//! Node processes on this machine, and calls to them through `grpcurl`.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A call may have to wait for an election on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program of a node: in the folder MULTIRAFT_BIN, or as built beside this test.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let beside = test.ancestors().nth(2).expect("tests are built into <profile>/deps");
    let folder = std::env::var_os("MULTIRAFT_BIN").map_or(beside.to_owned(), PathBuf::from);
    let path = folder.join("multiraft-node");
    assert!(path.exists(), "{} is missing: cargo build -p multiraft-server", path.display());
    path
}

static GRPCURL: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("GRPCURL") {
        return path.into();
    }
    // Asked when the test runs: a cache of builds may hold one that another checkout made.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test");
    let setup = Path::new(&folder).join("../../scripts/setup.sh");
    let output = Command::new(setup).arg("bin").output().expect("scripts/setup.sh runs");
    let path = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("grpcurl");
    assert!(path.exists(), "grpcurl is missing: run scripts/setup.sh tools");
    path
});

/// Path of the program.
pub fn grpcurl() -> &'static Path {
    &GRPCURL
}

pub struct Node {
    process: Child,
    pub id: u64,
    pub incarnation: u64,
    pub address: String,
    peer_port: u16,
    /// host:port of probes and metrics.
    pub http: String,
}

/// Nodes that end with the test.
pub struct Nodes {
    pub nodes: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
    }
}

impl Nodes {
    /// Nodes that are empty and know nothing of each other.
    pub fn start(count: usize) -> Nodes {
        Nodes::start_with(count, &[])
    }

    /// The same with further flags.
    pub fn start_with(count: usize, flags: &[&str]) -> Nodes {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = |n: usize| folder.path().join(n.to_string());
        let nodes = (0..count).map(|n| Node::start(&place(n), flags)).collect();
        Nodes { nodes, folder }
    }

    /// Ends a process without a word and waits until the others have noticed.
    pub fn kill(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        node.process.kill().expect("a child can be killed");
        node.process.wait().expect("a child can be waited for");
        let gone = node.id;
        for (other, node) in self.nodes.iter().enumerate() {
            if other != position {
                eventually("a lost peer", || !node.hears(gone));
            }
        }
    }

    /// Kills a process and starts it again on its directory.
    pub fn restart(&mut self, position: usize) {
        self.kill(position);
        let folder = self.folder.path().join(position.to_string());
        self.nodes[position] = Node::start(&folder, &[]);
    }

    /// Position of the node that leads a group, as the first one sees it.
    pub fn leader(&self, group: u32) -> usize {
        let leader = self.wait_for_leader(group);
        let position = self.nodes.iter().position(|node| node.id == leader);
        position.expect("one of the nodes leads")
    }

    /// Where the nodes live: one folder for each, named by its place, with `data` and `log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Three nodes, activated, with group 1 on all of them.
    pub fn formed() -> Nodes {
        let nodes = Nodes::start(3);
        nodes.form(1, 3);
        nodes
    }

    /// Forms a group on the first `count` nodes and waits for its leader.
    pub fn form(&self, group: u32, count: usize) {
        let members = self.members(count);
        let request = json!({"group": {"groupId": group, "members": members}});
        for node in &self.nodes[..count] {
            node.ok("Node/Bootstrap", &request);
        }
        self.wait_for_leader(group);
    }

    pub fn members(&self, count: usize) -> Vec<Value> {
        self.nodes[..count].iter().zip(1..).map(|(node, id)| node.member(id)).collect()
    }

    pub fn wait_for_leader(&self, group: u32) -> u64 {
        let mut leader = 0;
        eventually("a leader", || {
            let state = self.nodes[0].group(group);
            leader = state.map_or(0, |g| number(&g["leader"]));
            leader != 0
        });
        leader
    }

    /// The processes run, and a counter of a new session counts: nothing was lost, nobody crashed.
    pub fn assert_serving(&mut self) {
        for node in &mut self.nodes {
            let ended = node.process.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "node {} ended: {ended:?}", node.id);
        }
        let session = self.nodes[0].session(1);
        let counter = session.primitive(1, "atomix.runtime.counter.v1.Counter", "serving");
        let answer = counter.ok("counter.v1.Counter/Increment", 2, json!({"delta": 1}));
        assert!(number(&answer["output"]["value"]) >= 1, "{answer}");
    }
}

impl Node {
    fn start(folder: &Path, flags: &[&str]) -> Node {
        std::fs::create_dir_all(folder).expect("the temporary folder is writable");
        let ports = ports();
        let [client, peer, http] = ports;
        let log = std::fs::File::create(folder.join("log")).expect("the folder is writable");
        let process = command(&folder.join("data"), ports)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the node's program starts");
        let address = format!("127.0.0.1:{client}");
        let http = format!("127.0.0.1:{http}");
        let mut node = Node { process, id: 0, incarnation: 0, address, peer_port: peer, http };
        let mut info = Value::Null;
        eventually("a started node", || {
            info = node.call("Node/GetInfo", &json!({})).unwrap_or_default();
            info.is_object()
        });
        node.id = number(&info["nodeId"]);
        node.incarnation = number(&info["incarnation"]);
        node
    }

    /// This node as a member, as Bootstrap and Join want it.
    pub fn member(&self, member_id: u64) -> Value {
        json!({
            "nodeId": self.id.to_string(),
            "memberId": member_id.to_string(),
            "host": "127.0.0.1",
            "port": self.peer_port,
        })
    }

    /// Whether this node runs and a session with another one stands.
    pub fn hears(&self, other: u64) -> bool {
        let info = self.call("Node/GetInfo", &json!({})).unwrap_or_default();
        let peers = info["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().any(|p| number(&p["nodeId"]) == other && p["connected"] == true)
    }

    /// Stops the process where it is (SIGSTOP), or lets it go on.
    /// Asks the process to end.
    pub fn terminate(&self) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success(), "no process {pid}");
    }

    pub fn pause(&self, paused: bool) {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Calls a method of a package below `atomix.multiraft`, or of its core.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, Refusal> {
        let (output, refusal) = self.grpcurl(&full(method), request, PATIENCE);
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(serde_json::from_str(&output).expect("grpcurl prints JSON")),
        }
    }

    pub fn ok(&self, method: &str, request: &Value) -> Value {
        self.call(method, request).unwrap_or_else(|e| panic!("{method} {request}: {e:?}"))
    }

    /// The refusal of a call, which must have this code and these words.
    pub fn refused(&self, method: &str, request: &Value, code: Code, words: &[&str]) {
        match self.call(method, request) {
            Ok(answer) => panic!("{method} {request} was answered: {answer}"),
            Err(refusal) => refusal.assert(method, code, words),
        }
    }

    /// The first messages of a stream, read for a second.
    pub fn stream(&self, method: &str, request: &Value) -> Vec<Value> {
        self.stream_for(Duration::from_secs(1), method, request)
    }

    pub fn stream_for(&self, time: Duration, method: &str, request: &Value) -> Vec<Value> {
        let (output, refusal) = self.grpcurl(&full(method), request, time);
        let refusal = refusal.expect("the stream goes on until it is cut off");
        assert_eq!(refusal.code, Code::DeadlineExceeded as u32, "{method}: {refusal:?}");
        let messages = serde_json::Deserializer::from_str(&output).into_iter();
        messages.map(|m| m.expect("grpcurl prints JSON")).collect()
    }

    /// Names that reflection lists: services, or what stands in one of them.
    pub fn list(&self, service: Option<&str>) -> Vec<String> {
        let mut command = Command::new(&*GRPCURL);
        command.args(["-plaintext", &self.address, "list"]).args(service);
        let output = command.output().expect("grpcurl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// State of a group that this node has a member of.
    pub fn group(&self, group: u32) -> Option<Value> {
        let info = self.call("Node/GetInfo", &json!({})).ok()?;
        let groups = info["groups"].as_array()?;
        groups.iter().find(|g| g["groupId"] == group).cloned()
    }

    /// Opens a session in a partition.
    pub fn session(&self, partition: u32) -> Session<'_> {
        let request = json!({"headers": {"partitionId": partition}, "input": {"timeout": "30s"}});
        let answer = self.ok("Partition/OpenSession", &request);
        let id = number(&answer["output"]["sessionId"]);
        assert_ne!(id, 0, "{answer}");
        Session { node: self, partition, id }
    }

    fn grpcurl(&self, path: &str, request: &Value, time: Duration) -> (String, Option<Refusal>) {
        let mut process = Command::new(&*GRPCURL)
            .args(["-plaintext", "-emit-defaults", "-format-error", "-d", "@"])
            .args(["-max-time", &time.as_secs().to_string(), &self.address, path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("grpcurl runs");
        let mut stdin = process.stdin.take().expect("stdin is piped");
        // It may know the answer before it has read all: what it prints says enough.
        let _ = stdin.write_all(request.to_string().as_bytes());
        drop(stdin);
        let output = process.wait_with_output().expect("grpcurl ends");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return (printed, None);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let status: Value = errors
            .find('{')
            .and_then(|start| serde_json::from_str(&errors[start..]).ok())
            .unwrap_or_else(|| json!({"code": u32::MAX, "message": errors}));
        let code = status["code"].as_u64().unwrap_or_default() as u32;
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        (printed, Some(Refusal { code, message }))
    }
}

/// A session, seen from one node.
pub struct Session<'a> {
    pub node: &'a Node,
    pub partition: u32,
    pub id: u64,
}

impl<'a> Session<'a> {
    /// Headers down to the primitive.
    pub fn target(&self, primitive_id: u64) -> Value {
        json!({"session": {
            "primitiveId": primitive_id.to_string(),
            "session": {
                "sessionId": self.id.to_string(),
                "partition": {"partitionId": self.partition},
            },
        }})
    }

    pub fn create(&self, sequence: u64, kind: &str, name: &str) -> Value {
        let request = json!({
            "headers": {"operation": self.target(0), "sequenceNum": sequence.to_string()},
            "input": {"spec": {"service": kind, "name": name}},
        });
        self.node.ok("Session/CreatePrimitive", &request)
    }

    pub fn primitive(&self, sequence: u64, kind: &str, name: &str) -> Primitive<'_> {
        let answer = self.create(sequence, kind, name);
        let id = number(&answer["output"]["primitiveId"]);
        assert_ne!(id, 0, "{answer}");
        Primitive { session: self, id }
    }
}

/// A primitive of a session.
pub struct Primitive<'a> {
    pub session: &'a Session<'a>,
    pub id: u64,
}

impl Primitive<'_> {
    pub fn request(&self, sequence: u64, input: Value) -> Value {
        let operation = self.session.target(self.id);
        json!({
            "headers": {"operation": operation, "sequenceNum": sequence.to_string()},
            "input": input,
        })
    }

    /// An operation's response, whatever its status.
    pub fn operate(&self, method: &str, sequence: u64, input: Value) -> Value {
        self.session.node.ok(method, &self.request(sequence, input))
    }

    pub fn ok(&self, method: &str, sequence: u64, input: Value) -> Value {
        let answer = self.operate(method, sequence, input);
        assert_eq!(status(&answer), "OK", "{method}: {answer}");
        answer
    }

    /// The operation is answered with this status and a message with these words.
    pub fn answered(&self, method: &str, sequence: u64, input: Value, wanted: &str, words: &str) {
        let answer = self.operate(method, sequence, input);
        assert_eq!(status(&answer), wanted, "{method}: {answer}");
        let message = answer["headers"]["operation"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{method}: {message:?} does not say {words:?}");
    }
}

/// Why a call was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u32,
    pub message: String,
}

impl Refusal {
    pub fn assert(&self, what: &str, code: Code, words: &[&str]) {
        assert_eq!(self.code, code as u32, "{what}: {self:?}, not {code:?}");
        for word in words {
            assert!(self.message.contains(word), "{what}: {:?} lacks {word:?}", self.message);
        }
    }
}

/// gRPC codes.
#[derive(Clone, Copy, Debug)]
pub enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unavailable = 14,
    DataLoss = 15,
}

/// JSON writes 64-bit numbers as strings.
pub fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        value => value.as_u64().unwrap_or_default(),
    }
}

pub fn status(response: &Value) -> &str {
    response["headers"]["operation"]["status"].as_str().unwrap_or_default()
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn full(method: &str) -> String {
    let core = if method.contains(".v1.") { "" } else { "v1." };
    format!("atomix.multiraft.{core}{method}")
}

/// Ports that were free a moment ago.
pub fn ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|l| l.local_addr().expect("a bound listener has an address").port())
}

/// A node on a directory, with ports for clients, peers and probes.
pub fn command(data: &Path, [client, peer, probes]: [u16; 3]) -> Command {
    let mut command = Command::new(program());
    command
        .arg("--data-dir")
        .arg(data)
        .args(["--client-address", &format!("127.0.0.1:{client}")])
        .args(["--peer-address", &format!("127.0.0.1:{peer}")])
        .args(["--http-address", &format!("127.0.0.1:{probes}")])
        .args(["--advertise-host", "127.0.0.1"]);
    command
}
