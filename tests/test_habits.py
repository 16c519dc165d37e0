"""Habits that a machine can count: short files, few arguments, imports at the top; only commands print."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from sources import PACKAGE, nodes_of

MOST_LINES = 400
MOST_ARGUMENTS = 7
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

LATE_IMPORTS = {
    "devices.py:torch": "command lines are read without it",
    "frames/work.py:cv2": "a worker sets its threads; the parent may not need it",
    "onnx/int8.py:onnxruntime": "its quantization takes a second to load, and few exports want it",
    "memory.py:resource": "there only on Unix",
    "commands/measurements/help_times.py:resource": "there only on Unix",
}
"""Imports inside functions, and why."""
TALKING = ("commands/", "cli.py", "__main__.py", "pycaffe/__main__.py")


def _files() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _late(path: Path) -> Iterator[str]:
    """Modules that are imported inside a function."""
    for function in (node for node in nodes_of(path) if isinstance(node, FUNCTIONS)):
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                yield node.module or "."
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


def test_files_are_short() -> None:
    lines = {name: path.read_bytes().count(b"\n") for name, path in _files()}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert len(lines) > 500 and not long, long


def test_functions_take_few_arguments() -> None:
    many = {
        f"{name}:{node.name}": _arguments(node)
        for name, path in _files()
        for node in nodes_of(path)
        if isinstance(node, FUNCTIONS) and _arguments(node) > MOST_ARGUMENTS
    }
    assert not many, many


def test_imports_stand_at_the_top() -> None:
    """But in commands, whose ``--help`` answers without torch."""
    late = {f"{name}:{module}" for name, path in _files() if not name.startswith("commands/") for module in _late(path)}
    assert late <= set(LATE_IMPORTS), sorted(late - set(LATE_IMPORTS))


def test_only_commands_talk() -> None:
    """Below the commands nothing prints and nothing knows a command line."""
    talk = [
        f"{name}:{node.lineno}"
        for name, path in _files()
        if not name.startswith(TALKING)
        for node in nodes_of(path)
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        or (isinstance(node, ast.Import) and any(alias.name in ("argparse", "optparse") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in ("argparse", "optparse"))
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv")
    ]
    assert not talk, "\n".join(talk)
