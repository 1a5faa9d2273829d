"""Stubs of both wires, generated from the .proto files by grpcio-tools."""

import pathlib
import sys
import tempfile
from importlib import import_module, resources

from grpc_tools import protoc

CONTRACT = pathlib.Path(__file__).resolve().parents[2] / "proto"
FOLDERS = ("atomix/multiraft", "atomix/protocols")

_generated = tempfile.TemporaryDirectory(prefix="multiraft-stubs-")


def generate():
    """Generates all stubs into a folder that ends with the process."""
    files = [file for folder in FOLDERS for file in _files(folder)]
    arguments = [
        "protoc",
        f"-I{CONTRACT}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={_generated.name}",
        f"--grpc_python_out={_generated.name}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("interop: grpcio-tools cannot compile the contract")
    sys.path.insert(0, _generated.name)


def _files(folder):
    return [str(path.relative_to(CONTRACT)) for path in sorted((CONTRACT / folder).rglob("*.proto"))]


def services_of(package):
    """Every service of a package and of those within it."""
    for path in _files(package.replace(".", "/")):
        module = import_module(path.removesuffix(".proto").replace("/", ".") + "_pb2")
        yield from module.DESCRIPTOR.services_by_name.values()


def messages(package, file):
    """The module of a .proto file's messages."""
    return import_module(f"{package}.{file}_pb2")


def services(package, file):
    """The module of a .proto file's clients."""
    return import_module(f"{package}.{file}_pb2_grpc")
