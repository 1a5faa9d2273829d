//! Generates messages, gRPC clients and servers from the .proto files beside this crate.

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let mut files = Vec::new();
    collect(Path::new("atomix"), &mut files)?;
    files.sort();
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]);
    config.include_file("all.rs");
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("descriptors.bin"))
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_with_config(config, &files, &[PathBuf::from(".")])
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    println!("cargo:rerun-if-changed={}", dir.display());
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
