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
    files = [
        str(path.relative_to(CONTRACT))
        for folder in FOLDERS
        for path in sorted((CONTRACT / folder).rglob("*.proto"))
    ]
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


def messages(package, file):
    """The module of a .proto file's messages."""
    return import_module(f"{package}.{file}_pb2")


def services(package, file):
    """The module of a .proto file's clients."""
    return import_module(f"{package}.{file}_pb2_grpc")
