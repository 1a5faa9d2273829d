//! `multiraft`: commands, reads and the administration of nodes, from the command line.

mod actions;
mod arguments;
mod changes;
mod contents;
mod dev;
mod inspect;
mod primitives;
mod report;
mod resource;
mod screen;
mod signals;
mod survey;
mod table;
mod top;

use std::process::ExitCode;

use actions::{GroupAction, NodeAction, PrimitiveAction, QuotaAction, SessionAction};
use arguments::{Arguments, Command, Reach};
use clap::{CommandFactory, FromArgMatches};
use report::{Failure, Report};

fn main() -> ExitCode {
    let plugin = arguments::is_plugin(std::env::args_os().next().as_deref());
    let matches = arguments::command(plugin).get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.format(&mut Arguments::command()).exit(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("MULTIRAFT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::from(report::UNAVAILABLE);
        }
    };
    let output = arguments.output;
    let result = runtime.block_on(run(arguments, plugin));
    // A name that is still being looked up would be waited for.
    runtime.shutdown_background();
    match result {
        Ok(report) => report.print(output),
        Err(failure) => failure.print(output),
    }
}

async fn run(arguments: Arguments, plugin: bool) -> Result<Report, Failure> {
    let asks_cluster = !matches!(
        arguments.command,
        Command::Cluster { .. } | Command::Dev(_) | Command::Completions { .. }
    );
    if plugin && asks_cluster && arguments.endpoints.is_none() {
        return Err(Failure::usage(arguments::PORT_FORWARD));
    }
    let output = arguments.output;
    let reach = arguments.reach()?;
    match arguments.command {
        Command::Counter { action } => primitives::counter::run(&reach, action).await,
        Command::CounterMap { action } => {
            primitives::counter_map::run(&reach, action, output).await
        }
        Command::Election { action } => primitives::election::run(&reach, action, output).await,
        Command::IndexedMap { action } => {
            primitives::indexed_map::run(&reach, action, output).await
        }
        Command::Lock { action } => primitives::lock::run(&reach, action).await,
        Command::Map { action } => primitives::map::run(&reach, action, output).await,
        Command::MultiMap { action } => primitives::multi_map::run(&reach, action, output).await,
        Command::Set { action } => primitives::set::run(&reach, action, output).await,
        Command::Value { action } => primitives::value::run(&reach, action, output).await,
        Command::Node { action } => node(&reach, action).await,
        Command::Group { action } => group(&reach, action).await,
        Command::Session { action } => session(&reach, action).await,
        Command::Primitive { action } => primitive(&reach, action).await,
        Command::Quota { action } => quota(&reach, action).await,
        Command::Cluster { action } => resource::run(action).await,
        Command::Top(options) => top::run(&reach, options, output).await,
        Command::Dev(options) => dev::run(options, arguments.groups.unwrap_or(16)).await,
        Command::Completions { shell } => {
            let mut command = arguments::command(plugin);
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
            Ok(Report::nothing())
        }
    }
}

async fn node(reach: &Reach, action: NodeAction) -> Result<Report, Failure> {
    match action {
        NodeAction::List => inspect::nodes(reach).await,
        NodeAction::Show { node } => inspect::node(reach, &node).await,
        NodeAction::Drain { node, no_wait, fence } => {
            changes::drain(reach, &node, true, !no_wait, fence.fence).await
        }
        NodeAction::Undrain { node, fence } => {
            changes::drain(reach, &node, false, false, fence.fence).await
        }
        NodeAction::Check { node, lag_max } => changes::check(reach, &node, lag_max).await,
        NodeAction::Join { node, group, options } => {
            changes::add(reach, group, &node, options).await
        }
        NodeAction::Leave { node, group, fence } => {
            changes::leave(reach, &node, group, fence.fence).await
        }
        NodeAction::DeleteData { node, group, member_id, fence } => {
            changes::delete_data(reach, &node, group, member_id, fence.fence).await
        }
    }
}

async fn group(reach: &Reach, action: GroupAction) -> Result<Report, Failure> {
    match action {
        GroupAction::List { of } => inspect::groups(reach, of.as_deref()).await,
        GroupAction::Show { group } => inspect::group(reach, group).await,
        GroupAction::Members { group } => inspect::members(reach, group).await,
        GroupAction::Add { group, node, options } => {
            changes::add(reach, group, &node, options).await
        }
        GroupAction::Promote { group, node, fence } => {
            changes::promote(reach, group, &node, fence.fence).await
        }
        GroupAction::Remove { group, node, fence } => {
            changes::remove(reach, group, &node, fence.fence).await
        }
        GroupAction::Transfer { group, node, fence } => {
            changes::transfer(reach, group, node.as_deref(), fence.fence).await
        }
    }
}

async fn session(reach: &Reach, action: SessionAction) -> Result<Report, Failure> {
    match action {
        SessionAction::List { group } => contents::sessions(reach, group).await,
        SessionAction::Expire { group, session, fence } => {
            contents::expire(reach, group, session, fence.fence).await
        }
    }
}

async fn primitive(reach: &Reach, action: PrimitiveAction) -> Result<Report, Failure> {
    match action {
        PrimitiveAction::List { group } => contents::primitives(reach, group).await,
        PrimitiveAction::Destroy { r#type, name, fence } => {
            contents::destroy(reach, &r#type, &name, fence.fence).await
        }
    }
}

async fn quota(reach: &Reach, action: QuotaAction) -> Result<Report, Failure> {
    match action {
        QuotaAction::List => contents::quotas(reach).await,
        QuotaAction::Set { namespace, limits, fence } => {
            contents::set_quota(reach, namespace, Some(limits), fence.fence).await
        }
        QuotaAction::Remove { namespace, fence } => {
            contents::set_quota(reach, namespace, None, fence.fence).await
        }
    }
}
