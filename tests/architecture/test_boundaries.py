"""Which code may touch which outside system, and where a broad `except` may stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import PACKAGES, ROOT, iter_modules, module_name

DOORS = {
    "fsspec": ("pipelines.storage",),
    "s3fs": ("pipelines.storage",),
    "botocore": ("pipelines.storage",),
    "aiobotocore": ("pipelines.storage",),
    "ray": (
        "pipelines.cluster",
        "pipelines.annotate.graph",
        "pipelines.annotate.dry_run",
        "pipelines.shards.graph",
        "pipelines.training.graph",
    ),
    "tyro": ("jobs",),
    "PIL": (
        "overfeat.draw",
        "pipelines.images",
        "pipelines.shards",
        "pipelines.report",
    ),
    "tensorboardX": ("pipelines.training.events",),
    "simplejpeg": ("pipelines.images",),
    "pycocotools": ("pipelines.average_precision", "pipelines.shards"),
}
"""Package -> modules that may import it: each itself and what is below it."""

BROAD_EXCEPT = {"jobs.entrypoint": 1, "pipelines.images.decode": 1}
"""The process boundary, and the one function that decodes an image."""


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def broad_handlers(path: Path) -> int:
    handlers = [
        n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ExceptHandler)
    ]
    broad = {"Exception", "BaseException"}
    return sum(
        h.type is None or (isinstance(h.type, ast.Name) and h.type.id in broad) for h in handlers
    )


@pytest.mark.parametrize("package", sorted(DOORS))
def test_an_outside_system_has_one_door(package: str) -> None:
    users = {
        module_name(path) for path in iter_modules(*PACKAGES) if package in imported_packages(path)
    }
    assert users, f"nothing imports {package}: take it off the list"
    assert {name for name in users if not name.startswith(DOORS[package])} == set()


def test_a_broad_except_stands_at_the_two_boundaries_alone() -> None:
    found = {
        module_name(path): count
        for path in iter_modules(*PACKAGES)
        if (count := broad_handlers(path))
    }
    assert found == BROAD_EXCEPT


def test_importing_every_module_connects_to_nothing_and_makes_nothing(tmp_path: Path) -> None:
    modules = [module_name(path) for path in iter_modules(*PACKAGES)]
    code = f"""
import socket, sys
def refuse(*args, **options): raise AssertionError("importing opened a socket")
socket.socket.connect = refuse
for name in {modules!r}:
    __import__(name)
import ray, torch
assert not ray.is_initialized()
assert not torch.cuda.is_initialized()
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )
    assert [p for p in tmp_path.iterdir() if p.name != ".cache"] == []


def test_the_core_imports_without_the_pipelines_packages() -> None:
    code = """
import sys
for name in ("ray", "fsspec", "s3fs", "pyarrow", "pandas", "webdataset", "tyro", "simplejpeg"):
    sys.modules[name] = None
import overfeat, overfeat.draw, overfeat.import_weights
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
