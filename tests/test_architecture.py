"""The house: imports point up the list of rooms, no file imports itself over others, describing needs no torch.

Every import counts: at the top of a module, inside a function, for typing only, and by name (``import_module("...")``).
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sources import PACKAGE, nodes_of

ROOMS = (
    ("errors", "lazy", "version"),
    ("log", "memory", "ranks", "resources", "temporary"),
    ("files",),
    ("random", "devices", "alias", "documents", "guarded", "locks", "python_policy"),
    ("distributed", "gathering", "stamps", "record_file"),
    ("proto",),
    ("description",),
    ("media",),
    ("config",),
    ("batches",),
    ("frames",),
    ("depth",),
    ("flow",),
    ("datasets",),
    ("scenes",),
    ("deploy",),
    ("foreign",),
    ("layers",),
    ("net",),
    ("compare",),
    ("solver", "onnx", "importing"),
    ("evaluation",),
    ("detection",),
    ("segmentation",),
    ("pycaffe",),
    ("transfer",),
    ("figures", "experiments"),
    ("reports",),
    ("cli",),
    ("commands",),
    ("__main__",),
)
"""From the bottom up; rooms of one line do not know each other."""
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def _targets(path: Path) -> Iterator[str]:
    """Dotted names of the package that a file imports, in any way."""
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "caffe_compat":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "caffe_compat")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            for word in node.args:
                if isinstance(word, ast.Constant) and str(word.value).split(".")[0] == "caffe_compat":
                    yield str(word.value)


@functools.cache
def _file_of(name: str) -> Path:
    """The file that a dotted name stands in: its own, or that of the longest part of it that is a module."""
    parts = name.split(".")[1:]
    while parts:
        base = PACKAGE.joinpath(*parts)
        for found in (base.with_suffix(".py"), base / "__init__.py"):
            if found.exists():
                return found
        parts.pop()
    return PACKAGE / "__init__.py"


@functools.cache
def _graph() -> dict[Path, set[Path]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {path: {_file_of(name) for name in _targets(path)} - {path} for path in files}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _short(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_room_has_its_place() -> None:
    rooms = {_room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert not rooms - set(RANK), f"not in ROOMS: {sorted(rooms - set(RANK))}"


def test_imports_point_up() -> None:
    wrong = [
        f"{_short(path)} imports {_short(target)}"
        for path, targets in _graph().items()
        for target in targets
        if _room(path) != "__init__"
        and (_room(target) == "__init__" or _room(target) != _room(path))
        and RANK.get(_room(target), 99) >= RANK[_room(path)]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_file_imports_itself_over_others() -> None:
    graph, state, circles = _graph(), dict[Path, int](), list[str]()

    def visit(path: Path, trail: list[Path]) -> None:
        state[path] = 1
        for target in sorted(graph[path]):
            if state.get(target) == 1:
                circle = [*trail[trail.index(target) :], target]
                circles.append(" -> ".join(map(_short, circle)))
            elif target not in state:
                visit(target, [*trail, target])
        state[path] = 2

    for path in graph:
        if path not in state:
            visit(path, [path])
    assert not circles, "\n".join(circles)


def test_tools_are_their_command() -> None:
    """A file in ``tools/`` and ``data/`` is a docstring and three lines, and there is one for each command."""
    from caffe_compat.commands import COMMANDS

    files = [path for folder in ("tools", "data") for path in (PACKAGE.parent / folder).glob("*.py")]
    assert sorted(path.stem for path in files) == sorted(COMMANDS)
    for path in files:
        _, *code = ast.parse(path.read_text(encoding="utf-8")).body
        assert [ast.unparse(line) for line in code] == [
            "from caffe_compat.cli import run",
            f"from caffe_compat.commands.{path.stem} import main",
            "if __name__ == '__main__':\n    raise SystemExit(run(main))",
        ], path


def test_help_is_instant() -> None:
    """``--help`` and ``--version`` load nothing that takes long."""
    code = (
        "import sys; from caffe_compat.commands import COMMANDS, main_of\n"
        "from caffe_compat.cli import run\n"
        "from caffe_compat.__main__ import main\n"
        "slow = {'torch', 'torchvision', 'cv2', 'onnx', 'onnxruntime', 'skimage', 'matplotlib', 'timm', 'h5py'}\n"
        "sys.argv[1:] = ['--version']; assert run(main) == 0\n"
        "sys.argv[1:] = []; assert run(main) == 0\n"
        "for name in COMMANDS:\n"
        "    parser = sys.modules[main_of(name).__module__].make_parser()\n"
        "    assert parser.description and parser.format_help(), name\n"
        "    try: main_of(name)(['--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0, name\n"
        "    else: assert False, name\n"
        "    assert not slow & set(sys.modules), (name, slow & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_is_imported_at_once() -> None:
    """Importing it loads none of its rooms but the smallest, and nothing of others."""
    code = (
        "import sys; before = set(sys.modules); import caffe_compat\n"
        "new = {name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names}\n"
        "assert new == {'caffe_compat', 'caffe_compat.lazy', 'caffe_compat.version'}, new\n"
        "assert 'load_net' in caffe_compat.__all__ and caffe_compat.__version__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_describing_needs_no_torch() -> None:
    code = "import sys, caffe_compat.description, caffe_compat.proto.read; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_docs_list_the_layers() -> None:
    from caffe_compat.onnx import support_page

    page = (PACKAGE.parent / "docs" / "layers.md").read_text(encoding="utf-8")
    assert page == support_page(), "run make layers"


def test_contributing_shows_code_that_is_there() -> None:
    """Each excerpt names its file in its first line; the lines below stand there, in that order."""
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"^ +```(?:python)?\n *# (\S+)\n(.*?)^ +```$", page, re.DOTALL | re.MULTILINE)
    assert len(excerpts) == page.count("# caffe_compat/") + page.count("# tests/") > 4
    for name, code in excerpts:
        rest = (PACKAGE.parent / name).read_text(encoding="utf-8")
        for line in code.splitlines():
            _, found, rest = rest.partition(line.strip())
            assert found, f"{name} has no '{line.strip()}', or not in this order"


ASKS_BY_TYPE = {
    "commands/measurements/measure.py": "rewrites nets that this package wrote, for measurements",
    "description/net.py": "names the two types that Caffe's net itself knows: inputs, and the splits that it inserts",
    "onnx/fold.py": "operators of ONNX, of which Mul is called like a layer",
    "proto/upgrade.py": "old formats of messages",
    "proto/upgrade_c3d.py": "an old format of messages",
    "pycaffe/coord_map.py": "BVLC's own module, translated",
    "pycaffe/draw.py": "BVLC's own module, translated",
}


def test_no_room_but_layers_asks_for_a_layer_type() -> None:
    """What a type means stands in ``layers/``.  Nets may be written with type names, but not compared with them.

    A name counts where it is compared, or where it stands in a tuple, list or set, or is a key of a dict.
    """
    from caffe_compat.layers import registered

    types = set(registered())
    wrong, excused = [], set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if _room(path) == "layers":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked: list[ast.expr | None] = []
            if isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
            elif isinstance(node, ast.Tuple | ast.List | ast.Set):
                asked = [*node.elts]
            elif isinstance(node, ast.Dict):
                asked = [*node.keys]
            elif isinstance(node, ast.MatchValue):
                asked = [node.value]
            found = [word for word in asked if isinstance(word, ast.Constant) and word.value in types]
            if found and _short(path) in ASKS_BY_TYPE:
                excused.add(_short(path))
            else:
                wrong += [f"{_short(path)}:{word.lineno} asks for {word.value}" for word in found]
    assert not wrong, "\n".join(wrong)
    assert excused == set(ASKS_BY_TYPE), "an excuse that nobody needs"
