//! `multiraft`: commands, reads and a look at the nodes, from the command line.

mod arguments;
mod dev;
mod inspect;
mod primitives;
mod report;

use std::process::ExitCode;

use arguments::{Arguments, Command, GroupAction};
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
    let asks_cluster = !matches!(arguments.command, Command::Dev(_) | Command::Completions { .. });
    if plugin && asks_cluster && arguments.endpoints.is_none() {
        return Err(Failure::usage(arguments::PORT_FORWARD));
    }
    let reach = arguments.reach();
    match arguments.command {
        Command::Counter { action } => primitives::counter(&reach, action).await,
        Command::Map { action } => primitives::map(&reach, action).await,
        Command::Node { .. } => inspect::nodes(&reach).await,
        Command::Group { action: GroupAction::List { of } } => {
            inspect::groups(&reach, of.as_deref()).await
        }
        Command::Dev(options) => dev::run(options, arguments.groups.unwrap_or(16)).await,
        Command::Completions { shell } => {
            let mut command = arguments::command(plugin);
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
            Ok(Report::nothing())
        }
    }
}
