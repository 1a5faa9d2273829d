//! `multiraft-operator`: watches MultiRaftCluster objects and their nodes, and makes them so.
//!
//! A pass has five steps: *fetch* (everything, or nothing) → *validate* → *plan* (pure, crate
//! `plan`) → *apply* → *report*. Watches and node streams only mark clusters as due.

mod apiserver;
mod apply;
mod backoff;
mod calls;
mod certificate;
mod checks;
mod errors;
mod fetch;
mod fleet;
mod health;
mod leader;
mod limits;
mod machines;
mod metrics;
mod node_calls;
mod nodes;
mod options;
mod queue;
mod reconcile;
mod report;
mod store;
mod view;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use apiserver::ApiServer;
use apply::Applier;
use calls::Gate;
use certificate::Certificate;
use clap::Parser;
use fetch::{Stores, subject};
use fleet::Fleet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::events::{Recorder, Reporter as EventReporter};
use kube::{Api, ResourceExt};
use leader::{Election, Standing};
use machines::Machines;
use metrics::Metrics;
use multiraft_api::{CLUSTER_LABEL, MultiRaftCluster};
use nodes::Nodes;
use options::{LogFormat, Options};
use queue::Queue;
use reconcile::Reconciler;
use report::Reporter;
use store::{Key, Namespaced, Store, Watched};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch as state};
use watch::{Board, Surroundings, Watch, cluster_of};

fn main() -> ExitCode {
    let options = Options::parse();
    start_logging(&options);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("multiraft-operator: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multiraft-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(options: &Options) {
    let filter = tracing_subscriber::EnvFilter::try_new(&options.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let api = ApiServer::connect().await?;
    let all = options.watch_namespaces.iter().all(String::is_empty);
    let stores = Stores { machines: Machines::new(all), ..Stores::default() };
    let metrics = Arc::new(Metrics::new(Fleet(stores.clusters.clone())));
    let queue = Arc::new(Queue::default());
    let (standing_sender, standing) = state::channel(Standing::Standby);
    let (reachable, reachability) = state::channel(apiserver::assumed());
    let (floor_sender, floor) = state::channel(0u64);
    tokio::spawn(apiserver::probe(api.requests.clone(), reachable));

    let certificate = Certificate::new(options.tls_folder.clone());
    let (all_clusters, due) = (stores.clusters.clone(), queue.clone());
    tokio::spawn(certificate.clone().keep(move || mark_all(&all_clusters, &due)));
    let nodes = Nodes::new(queue.clone(), metrics.clone(), floor_sender, certificate.clone());
    let board = Board::default();
    let around = Surroundings {
        board: board.clone(),
        reachability: reachability.clone(),
        metrics: metrics.clone(),
    };
    start_watches(&options, &api, &stores, &around, &queue, &nodes);

    let vitals = health::Vitals {
        metrics: metrics.clone(),
        board: board.clone(),
        reachability,
        standing: standing.clone(),
    };
    let address = options.metrics_address;
    tokio::spawn(async move {
        if let Err(error) = health::serve(address, vitals).await {
            tracing::error!(%address, error = %format!("{error:#}"), "metrics and probes are not served");
        }
    });

    let (stop, stopped) = oneshot::channel();
    let election = election(&options, &api);
    let instance = election.identity.clone();
    let elected = tokio::spawn(election.run(standing_sender, floor, stopped));
    tokio::spawn(mark_all_when_leading(standing.clone(), stores.clone(), queue.clone()));

    let gate = Gate::new(standing, options.exit_at_call, metrics.clone());
    let applier = Applier { client: api.requests.clone(), gate, stores, nodes };
    let events =
        EventReporter { controller: "multiraft-operator".to_owned(), instance: Some(instance) };
    let reporter = Reporter {
        applier: applier.clone(),
        recorder: Recorder::new(api.requests.clone(), events),
        metrics: metrics.clone(),
        written: Arc::default(),
    };
    let reconciler = Reconciler {
        applier,
        reporter,
        queue,
        board,
        metrics,
        node_image: options.node_image.clone(),
        operator_pods: options.pods(),
        certificate,
        failures: Arc::default(),
        held: Arc::default(),
    };
    let passes = tokio::spawn(reconciler.run());
    terminated().await?;
    passes.abort();
    // The election may have ended already; then there is no lease to give back.
    let _ = stop.send(());
    let _ = elected.await;
    Ok(())
}

async fn terminated() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("asked to stop");
    Ok(())
}

fn election(options: &Options, api: &ApiServer) -> Election {
    let namespace =
        options.lease_namespace.clone().unwrap_or_else(|| api.default_namespace.clone());
    let own = || format!("multiraft-operator-{}", std::process::id());
    Election {
        leases: Api::namespaced(api.requests.clone(), &namespace),
        name: options.lease_name.clone(),
        identity: options.identity.clone().unwrap_or_else(own),
        duration: options.lease_duration,
        take_over: !options.leader_elect,
    }
}

fn mark_all(clusters: &Store<MultiRaftCluster>, queue: &Queue) {
    for cluster in clusters.all() {
        queue.mark(Key::of(cluster.as_ref()));
    }
}

/// A new leader looks at every cluster at once.
async fn mark_all_when_leading(
    mut standing: state::Receiver<Standing>,
    stores: Stores,
    queue: Arc<Queue>,
) {
    let mut leading = None;
    loop {
        let epoch = standing.borrow_and_update().epoch(tokio::time::Instant::now());
        if epoch.is_some() && epoch != leading {
            mark_all(&stores.clusters, &queue);
        }
        leading = epoch;
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// The machines, whose loss is the loss of volumes. A Role of some namespaces cannot name them.
fn watch_machines(api: &ApiServer, stores: &Stores, around: &Surroundings, queue: &Arc<Queue>) {
    let (machines, clusters, queue) =
        (stores.machines.clone(), stores.clusters.clone(), queue.clone());
    let scope = Scope { api, namespace: &None, around };
    scope.watch_all(&stores.machines.store, None, move |node: &Node| {
        if machines.changed(node) {
            mark_all(&clusters, &queue);
        }
    });
}

/// One watch per kind and namespace, each on its own.
fn start_watches(
    options: &Options,
    api: &ApiServer,
    stores: &Stores,
    around: &Surroundings,
    queue: &Arc<Queue>,
    nodes: &Nodes,
) {
    let names: Vec<&String> = options.watch_namespaces.iter().filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        watch_machines(api, stores, around, queue);
    }
    let namespaces: Vec<Option<String>> =
        if names.is_empty() { vec![None] } else { names.into_iter().cloned().map(Some).collect() };
    for namespace in namespaces {
        let scope = Scope { api, namespace: &namespace, around };
        let q = queue.clone();
        scope.watch(&stores.clusters, None, move |cluster| q.mark(Key::of(cluster)));
        let q = queue.clone();
        let (pods, nodes) = (stores.pods.clone(), nodes.clone());
        scope.watch(&stores.pods, Some(CLUSTER_LABEL), move |pod: &Pod| {
            follow(pod, &pods, &nodes);
            mark_owner(pod, &q);
        });
        scope.watch_owned(&stores.slices, queue);
        scope.watch_owned(&stores.volumes, queue);
        scope.watch_owned(&stores.services, queue);
        scope.watch_owned(&stores.config_maps, queue);
        scope.watch_owned(&stores.service_accounts, queue);
        scope.watch_owned(&stores.budgets, queue);
        scope.watch_owned(&stores.network_policies, queue);
    }
}

fn mark_owner<K: ResourceExt>(object: &K, queue: &Queue) {
    if let Some(key) = cluster_of(object, CLUSTER_LABEL) {
        queue.mark(key);
    }
}

/// Follows the node of a pod that runs; forgets one that is gone.
fn follow(pod: &Pod, pods: &Store<Pod>, nodes: &Nodes) {
    let Some(uid) = pod.uid() else { return };
    let lives = pods.get(&Key::of(pod)).is_some_and(|known| known.uid().as_ref() == Some(&uid));
    match subject(pod).filter(|_| lives) {
        Some(subject) => nodes.follow(subject),
        None => nodes.forget(&uid),
    }
}

struct Scope<'a> {
    api: &'a ApiServer,
    namespace: &'a Option<String>,
    around: &'a Surroundings,
}

impl Scope<'_> {
    fn watch<K: Namespaced>(
        &self,
        store: &Store<K>,
        label: Option<&'static str>,
        touched: impl Fn(&K) + Send + Sync + 'static,
    ) {
        let Some(namespace) = self.namespace else { return self.watch_all(store, label, touched) };
        let api = Api::namespaced(self.api.watches.clone(), namespace);
        let name = format!("{} in {namespace}", K::plural(&()));
        let (namespace, store) = (Some(namespace.clone()), store.clone());
        let watch = Watch { name, api, namespace, label, store };
        drop(watch.spawn(self.around.clone(), touched));
    }

    fn watch_all<K: Watched>(
        &self,
        store: &Store<K>,
        label: Option<&'static str>,
        touched: impl Fn(&K) + Send + Sync + 'static,
    ) {
        let api = Api::all(self.api.watches.clone());
        let name = K::plural(&()).into_owned();
        let watch = Watch { name, api, namespace: None, label, store: store.clone() };
        drop(watch.spawn(self.around.clone(), touched));
    }

    fn watch_owned<K: Namespaced>(&self, store: &Store<K>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        self.watch(store, Some(CLUSTER_LABEL), move |object| mark_owner(object, &queue));
    }
}
