//! Generates messages, gRPC clients and servers, and the table of operations from the .proto files
//! beside this crate.

use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor, Value};

/// The core package of wire M.
const RSM: &str = "atomix.protocols.rsm.v1";

fn main() -> std::io::Result<()> {
    let mut files = Vec::new();
    collect(Path::new("atomix"), &mut files)?;
    files.sort();
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let descriptors = out.join("descriptors.bin");

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .include_file("all.rs")
        .type_attribute(".", "#[allow(clippy::all)]")
        .file_descriptor_set_path(&descriptors)
        .service_generator(Box::new(Services { servers: servers(), clients: clients() }));
    let mut described = config.load_fds(&files, &[PathBuf::from(".")])?;
    described.file.retain(|file| !passes_through(file.package()));
    config.compile_fds(described)?;

    let pool = DescriptorPool::decode(std::fs::read(&descriptors)?.as_slice())
        .expect("protoc writes descriptors that decode");
    std::fs::write(out.join("rpc.rs"), table(&pool))
}

/// Whether a package is on the wire as another one is that code is made for: nodes do not decode the
/// inputs and outputs of wire M's primitives.
fn passes_through(package: &str) -> bool {
    package.starts_with("atomix.protocols.rsm.") && package != RSM
}

fn servers() -> Box<dyn prost_build::ServiceGenerator> {
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::codec::ServerCodec")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .service_generator()
}

fn clients() -> Box<dyn prost_build::ServiceGenerator> {
    tonic_prost_build::configure()
        .build_server(false)
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .service_generator()
}

/// Servers only for the core package: primitives are served from the table of operations. Wire M has
/// neither: its messages are enough to serve it.
struct Services {
    servers: Box<dyn prost_build::ServiceGenerator>,
    clients: Box<dyn prost_build::ServiceGenerator>,
}

impl prost_build::ServiceGenerator for Services {
    fn generate(&mut self, service: prost_build::Service, buf: &mut String) {
        if service.package == RSM {
            return;
        }
        if service.package == "atomix.multiraft.v1" {
            self.servers.generate(service.clone(), buf);
        }
        self.clients.generate(service, buf);
    }

    fn finalize(&mut self, buf: &mut String) {
        self.servers.finalize(buf);
        self.clients.finalize(buf);
    }

    fn finalize_package(&mut self, package: &str, buf: &mut String) {
        self.servers.finalize_package(package, buf);
        self.clients.finalize_package(package, buf);
    }
}

/// Source of module `rpc`: every service with the option `primitive_type`, in order of name.
fn table(pool: &DescriptorPool) -> String {
    let mut services: Vec<_> = pool
        .services()
        .filter_map(|service| {
            let primitive = option(pool, &service.options(), "primitive_type")?;
            Some((service, primitive.as_str().expect("primitive_type is a string").to_owned()))
        })
        .collect();
    services.sort_by(|a, b| a.0.full_name().cmp(b.0.full_name()));
    let mut modules = String::new();
    let mut rows = String::new();
    for (service, primitive) in &services {
        modules += &module(pool, service, primitive);
        for method in service.methods() {
            rows += &row(pool, service, primitive, &method);
        }
    }
    format!(
        "/// Every operation of every primitive, ordered by path of the service, then by number.\n\
         pub const RPCS: &[Rpc] = &[\n{rows}];\n{modules}"
    )
}

fn module(pool: &DescriptorPool, service: &ServiceDescriptor, primitive: &str) -> String {
    let package = service.package_name();
    let name = package.rsplit('.').nth(1).expect("packages end in <primitive>.v1");
    let mut constants = String::new();
    for method in service.methods() {
        constants += &format!(
            "    /// Number of operation `{}`.\n    pub const {}: u32 = {};\n",
            method.name(),
            upper_snake(method.name()),
            operation(pool, &method),
        );
    }
    format!(
        "/// Type and operation numbers of `{}`.\npub mod {name} {{\n    \
         /// The primitive's type, as in `PrimitiveSpec.service`.\n    \
         pub const TYPE: &str = {primitive:?};\n{constants}}}\n",
        service.full_name(),
    )
}

fn row(
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
    primitive: &str,
    method: &MethodDescriptor,
) -> String {
    let kind = match option(pool, &method.options(), "operation_type") {
        Some(Value::EnumNumber(0)) => "Command",
        Some(Value::EnumNumber(1)) => "Query",
        other => panic!("{}: option operation_type is {other:?}", method.full_name()),
    };
    format!(
        "    Rpc {{ path: \"/{}/{}\", primitive: {primitive:?}, method: {:?}, operation: {}, \
         kind: Kind::{kind}, streaming: {} }},\n",
        service.full_name(),
        method.name(),
        method.name(),
        operation(pool, method),
        method.is_server_streaming(),
    )
}

fn operation(pool: &DescriptorPool, method: &MethodDescriptor) -> u32 {
    option(pool, &method.options(), "operation_id")
        .and_then(|value| value.as_u32())
        .filter(|number| *number > 0)
        .unwrap_or_else(|| panic!("{}: option operation_id is missing", method.full_name()))
}

/// Value of one of our own options, if it is set.
fn option(
    pool: &DescriptorPool,
    options: &prost_reflect::DynamicMessage,
    name: &str,
) -> Option<Value> {
    let extension = pool
        .get_extension_by_name(&format!("atomix.multiraft.v1.{name}"))
        .expect("options.proto declares the option");
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_uppercase());
    }
    snake
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    println!("cargo:rerun-if-changed={}", dir.display());
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
