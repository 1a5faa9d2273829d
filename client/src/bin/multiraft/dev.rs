//! `multiraft dev`: a cluster of processes on this machine, for people who write applications.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::future::{join_all, select_all, try_join_all};
use multiraft_client::{Options, node_info, node_service, v1};
use tokio::process::{Child, Command};

use crate::arguments::DevOptions;
use crate::report::{Failure, Report};
use crate::signals;

const BOOTSTRAP: &str = "/atomix.multiraft.v1.Node/Bootstrap";

/// Nodes on a slow disk take a few seconds to open their data.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A node stops within a few seconds by itself; after this it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Client, peer and HTTP port of a node follow each other.
const PORTS_PER_NODE: u16 = 10;

struct Node {
    place: Place,
    process: Child,
}

/// Where a node listens and logs.
#[derive(Clone)]
struct Place {
    number: u16,
    client: String,
    peer_port: u16,
    log_file: PathBuf,
}

pub async fn run(options: DevOptions, groups: u32) -> Result<Report, Failure> {
    let started = Instant::now();
    let program = program(&options)?;
    let (data_dir, temporary) = data_dir(&options)?;
    ports_are_free(&options)?;
    let mut nodes = Vec::new();
    for number in 0..options.nodes {
        nodes.push(start(&program, &data_dir, &options, number)?);
    }
    let places: Vec<_> = nodes.iter().map(|node| node.place.clone()).collect();
    let ready = tokio::select! {
        ready = form(&places, groups) => ready,
        failure = interrupted() => Err(failure),
        (node, status) = ended(&mut nodes) => Err(early_end(&nodes[node].place, &status)),
    };
    let end = match ready {
        Ok(()) => {
            welcome(&places, groups, &data_dir, started.elapsed());
            watch(&mut nodes).await
        }
        Err(failure) => Err(failure),
    };
    stop(nodes).await;
    drop(temporary);
    end
}

/// The program of a node: as given, or beside this one, or in PATH.
fn program(options: &DevOptions) -> Result<PathBuf, Failure> {
    if let Some(program) = &options.node_program {
        return Ok(program.clone());
    }
    let this = std::env::current_exe().and_then(|this| this.canonicalize()).ok();
    let beside = this.as_deref().and_then(Path::parent).map(|folder| folder.to_owned());
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("multiraft-node"))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Failure::usage(
                "multiraft-node is neither beside this program nor in PATH: build it with \
                 'cargo build --release -p multiraft-server', or say where it is with --node-program",
            )
        })
}

fn client_port(options: &DevOptions, number: u16) -> u16 {
    options.port + PORTS_PER_NODE * number
}

/// Whoever listens there would be taken for a node of ours.
fn ports_are_free(options: &DevOptions) -> Result<(), Failure> {
    let clients = (0..options.nodes).map(|number| client_port(options, number));
    for port in clients.flat_map(|port| port..port + 3) {
        std::net::TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
            Failure::usage(format!("port {port}: {error}; choose others with --port"))
        })?;
    }
    Ok(())
}

fn data_dir(options: &DevOptions) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    if let Some(dir) = &options.data_dir {
        return Ok((dir.clone(), None));
    }
    let dir = tempfile::Builder::new().prefix("multiraft-dev-").tempdir().map_err(|error| {
        Failure::usage(format!("no folder for data: {error}; name one with --data-dir"))
    })?;
    Ok((dir.path().to_owned(), Some(dir)))
}

fn start(
    program: &Path,
    data_dir: &Path,
    options: &DevOptions,
    number: u16,
) -> Result<Node, Failure> {
    let port = client_port(options, number);
    let address = |port: u16| format!("127.0.0.1:{port}");
    let folder = data_dir.join(format!("node-{number}"));
    let log_file = data_dir.join(format!("node-{number}.log"));
    let log = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::File::create(&log_file))
        .map_err(|error| {
            Failure::usage(format!("write to {}: {error}; see --data-dir", data_dir.display()))
        })?;
    let process = Command::new(program)
        .arg("--data-dir")
        .arg(&folder)
        .args(["--client-address", &address(port)])
        .args(["--peer-address", &address(port + 1)])
        .args(["--http-address", &address(port + 2)])
        .args(["--advertise-host", "127.0.0.1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for this program, which stops the nodes in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::usage(format!("start {}: {error}", program.display())))?;
    let place = Place { number, client: address(port), peer_port: port + 1, log_file };
    Ok(Node { place, process })
}

/// Makes the groups, on every node the same; does nothing where they are there from last time.
async fn form(nodes: &[Place], groups: u32) -> Result<(), Failure> {
    let infos = try_join_all(nodes.iter().map(|node| awake(&node.client))).await?;
    let members: Vec<_> = (1..)
        .zip(nodes.iter().zip(&infos))
        .map(|(member_id, (node, info))| v1::MemberConfig {
            node_id: info.node_id,
            host: "127.0.0.1".into(),
            port: node.peer_port.into(),
            role: v1::MemberRole::Member.into(),
            member_id,
        })
        .collect();
    let partitions = (1..=groups).map(|partition_id| v1::PartitionConfig {
        partition_id,
        members: members.clone(),
        ..Default::default()
    });
    let request = v1::BootstrapRequest { partitions: partitions.collect(), ..Default::default() };
    let fresh = nodes.iter().zip(&infos).filter(|(_, info)| info.groups.is_empty());
    try_join_all(fresh.map(|(node, _)| {
        node_service::<_, v1::BootstrapResponse>(&node.client, BOOTSTRAP, &request, START_TIMEOUT)
    }))
    .await?;
    answers(nodes).await
}

/// Waits until a node answers for itself.
async fn awake(address: &str) -> Result<v1::GetInfoResponse, Failure> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match node_info(address, Duration::from_secs(1)).await {
            Ok(info) => return Ok(info),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Waits until every group answers a linearizable read.
async fn answers(nodes: &[Place]) -> Result<(), Failure> {
    let endpoints = nodes.iter().map(|node| node.client.clone());
    let cluster = Options::default().timeout(START_TIMEOUT).connect(endpoints).await?;
    let size = cluster.map("multiraft-dev").size().await;
    cluster.close().await;
    size?;
    Ok(())
}

fn welcome(nodes: &[Place], groups: u32, data_dir: &Path, took: Duration) {
    let endpoints: Vec<_> = nodes.iter().map(|node| node.client.as_str()).collect();
    let endpoints = endpoints.join(",");
    println!(
        "ready after {:.1} s: {} nodes, {groups} groups, data and logs in {}\n\
         \n    export MULTIRAFT_ENDPOINTS={endpoints}\n    multiraft counter increment visits\n\
         \nCtrl-C ends it",
        took.as_secs_f64(),
        nodes.len(),
        data_dir.display(),
    );
}

/// Until Ctrl-C, or until the last node has ended.
async fn watch(nodes: &mut Vec<Node>) -> Result<Report, Failure> {
    while !nodes.is_empty() {
        let (position, status) = tokio::select! {
            _ = interrupted() => return Ok(Report::nothing()),
            ended = ended(nodes) => ended,
        };
        let Place { number, client, log_file, .. } = nodes.remove(position).place;
        println!("node {number} at {client} ended ({status}); see {}", log_file.display());
    }
    Err(Failure::unavailable("all nodes ended"))
}

/// The first node that ends, by its position, and how.
async fn ended(nodes: &mut [Node]) -> (usize, String) {
    let ends = nodes.iter_mut().map(|node| Box::pin(node.process.wait()));
    let (status, position, _) = select_all(ends).await;
    (position, status.map_or_else(|error| error.to_string(), |status| status.to_string()))
}

/// A node that ends before it is ready has said why in the last line of its log.
fn early_end(place: &Place, status: &str) -> Failure {
    let log = std::fs::read_to_string(&place.log_file).unwrap_or_default();
    let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it logged nothing");
    Failure::unavailable(format!(
        "node {} at {} ended ({status}): {last}",
        place.number, place.client
    ))
}

async fn interrupted() -> Failure {
    signals::next().await;
    Failure::unavailable("interrupted before the nodes were ready")
}

/// Asks all nodes to stop, and kills those that do not.
async fn stop(nodes: Vec<Node>) {
    join_all(nodes.into_iter().map(|mut node| async move {
        if let Some(id) = node.process.id() {
            // The library has no call for SIGTERM; every system with processes has this program.
            let _ = Command::new("kill").arg(id.to_string()).status().await;
        }
        if tokio::time::timeout(STOP_TIMEOUT, node.process.wait()).await.is_err() {
            println!("node {} did not stop in time and is killed", node.place.number);
            let _ = node.process.kill().await;
        }
    }))
    .await;
}
