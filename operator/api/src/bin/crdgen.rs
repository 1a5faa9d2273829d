//! Writes the resource definitions: `crdgen [--check] DIR…`. With `--check` it writes nothing and
//! fails when a file differs.

// The tool beside the pure library: writing files is its purpose.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|a| a == "--check");
    arguments.retain(|a| a != "--check");
    if arguments.is_empty() || arguments.iter().any(|a| a.starts_with('-')) {
        eprintln!("usage: crdgen [--check] DIR…");
        return ExitCode::from(2);
    }
    let mut stale = false;
    for dir in &arguments {
        for (name, definition) in multiraft_api::definitions() {
            let path = Path::new(dir).join(name);
            let text = match serde_yaml::to_string(&definition) {
                Ok(text) => text,
                Err(e) => {
                    eprintln!("crdgen: {name}: {e}");
                    return ExitCode::FAILURE;
                }
            };
            if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
                continue;
            }
            if check {
                eprintln!("crdgen: {} is out of date: run `make fix`", path.display());
                stale = true;
            } else if let Err(e) =
                std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text))
            {
                eprintln!("crdgen: {}: {e}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
