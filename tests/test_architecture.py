"""Imports point up the list of packages only; describing a net needs no torch; the README's table is generated."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "caffe_compat"
RANK = {
    "errors": 0, "files": 0, "log": 0, "cli": 0, "config": 0, "memory": 0, "random": 0,
    "documents": 0, "stamps": 0, "frames": 2.5, "depth": 2.6,
    "proto": 1, "description": 2, "layers": 3, "net": 4, "solver": 5, "compare": 5, "onnx": 5.5, "pycaffe": 6,
    "datasets": 7.2, "scenes": 7.5, "transfer": 8, "commands": 9, "bench": 9,
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Parts of the package that a module imports when it is imported (not for typing, not inside functions)."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module == "caffe_compat":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("caffe_compat."):
            found.add((node.module or "").split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    wrong = {name for name in _imports(path) if RANK[name] > RANK[own]}
    assert not wrong, f"{path} imports {wrong}"


def test_describing_needs_no_torch() -> None:
    code = "import sys, caffe_compat.description, caffe_compat.proto.read; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_readme_lists_the_layers() -> None:
    from caffe_compat.onnx import support_table

    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    table = readme.split("<!-- layers:")[1].split("-->\n", 1)[1].split("\n<!-- end -->")[0]
    assert table.strip() == support_table().strip()
