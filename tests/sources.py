"""The package's own sources, parsed once for all tests of a file."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "caffe_compat"


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree, as ``ast.walk`` gives them."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
