//! Everything that somebody who is to help wants to see, in one archive.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::Command;

use super::kubectl::{CLUSTER_LABEL, CLUSTERS, Kubectl, SLICES, name};
use super::look::list;
use crate::report::{Failure, Report};

/// Lines of each log: hours of a quiet program, and no gigabytes.
const LOG_LINES: &str = "--tail=20000";

pub async fn dump(
    kubectl: &Kubectl,
    wanted: Option<&str>,
    operator: &str,
    file: Option<PathBuf>,
) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let name = name(&cluster);
    let folder = tempfile::tempdir().map_err(|error| Failure::unavailable(format!("{error}")))?;
    let inside = folder.path().join(format!("{name}-dump"));
    std::fs::create_dir(&inside).map_err(|error| failed(&inside, &error))?;
    let selector = format!("{CLUSTER_LABEL}={name}");
    let all = ["pods", "pvc", "services", "configmaps", "pdb", "networkpolicies", SLICES].join(",");
    let mut missing = Vec::new();
    for (into, arguments) in [
        ("cluster.yaml", vec!["get", CLUSTERS, name, "-o", "yaml"]),
        ("objects.yaml", vec!["get", &all, "-l", &selector, "-o", "yaml"]),
        ("pods.txt", vec!["describe", "pods", "-l", &selector]),
        ("events.txt", vec!["get", "events", "--sort-by=.lastTimestamp"]),
        ("machines.txt", vec!["get", "nodes", "-o", "wide"]),
        ("version.yaml", vec!["version", "-o", "yaml"]),
    ] {
        keep(kubectl, &inside, into, &arguments, &mut missing).await?;
    }
    let pods = kubectl.json(&["get", "pods", "-l", &selector]).await?;
    for pod in list(&pods["items"]).iter().map(super::kubectl::name) {
        let log = ["logs", pod, LOG_LINES];
        keep(kubectl, &inside, &format!("{pod}.log"), &log, &mut missing).await?;
        let before = ["logs", pod, LOG_LINES, "--previous"];
        // Most never restarted.
        keep(kubectl, &inside, &format!("{pod}-previous.log"), &before, &mut Vec::new()).await?;
    }
    let label = "app.kubernetes.io/name=multiraft-operator";
    let log = ["logs", "-l", label, "--prefix", LOG_LINES];
    keep(&kubectl.elsewhere(operator), &inside, "operator.log", &log, &mut missing).await?;
    let file = file.unwrap_or_else(|| format!("{name}-dump.tar.gz").into());
    pack(folder.path(), &format!("{name}-dump"), &file).await?;
    for what in &missing {
        eprintln!("not in it: {what}");
    }
    let told = format!("written to {}", file.display());
    Ok(Report::new(told, json!({"file": file, "missing": missing})))
}

/// What a command prints, as a file; what cannot be had is left out, and said.
async fn keep(
    kubectl: &Kubectl,
    folder: &Path,
    file: &str,
    arguments: &[&str],
    missing: &mut Vec<String>,
) -> Result<(), Failure> {
    let output = kubectl.output(arguments).await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        missing.push(format!("{file}: {said}"));
        return Ok(());
    }
    let path = folder.join(file);
    std::fs::write(&path, output.stdout).map_err(|error| failed(&path, &error))
}

async fn pack(folder: &Path, name: &str, file: &Path) -> Result<(), Failure> {
    let mut tar = Command::new("tar");
    let packed = tar.arg("-czf").arg(file).arg("-C").arg(folder).arg(name).output().await;
    let packed = packed.map_err(|error| Failure::usage(format!("start tar: {error}")))?;
    match packed.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&packed.stderr).trim().to_owned();
            Err(Failure::usage(format!("--file {}: {said}", file.display())))
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unavailable(format!("{}: {error}", path.display()))
}
