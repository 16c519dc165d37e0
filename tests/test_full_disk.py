"""Whatever goes wrong with the disk, at whatever moment: a clear error, the old file or none, and nothing left over."""

import ast
import itertools
import resource
from pathlib import Path

import pytest
from faulty_disk import everything, faulty, largest_file
from sources import PACKAGE, nodes_of
from writers import WRITERS

from caffe_compat.errors import CaffeCompatError

STEPS = 6
WRITING = {
    "append_part", "atomic_folder", "atomic_write", "copy_file", "create_hdf5", "finish_file", "write_file",
    "write_mat", "write_png", "write_stamp",
}  # fmt: skip
ELSEWHERE = {
    "files.py": "the writer itself",
    "compare/references.py": "a folder of its own that nobody sees",
    "commands/features.py": "a part of the records, in gathering's folder",
    "gathering.py": "a folder of its own that is gone at the end",
}
DIRECT = {
    "imwrite", "savez", "savez_compressed", "savefig", "save_model", "imsave", "write_text", "write_bytes", "tofile",
    "mkstemp", "NamedTemporaryFile", "rename", "replace", "touch", "symlink_to", "move", "copyfile", "copy2",
}  # fmt: skip
ALLOWED = {
    ("files.py", "replace"): "the writer itself",
    ("files.py", "rename"): "the writer itself",
    ("temporary.py", "replace"): "the writer itself",
    ("transfer/nets.py", "rename"): "no file: names of layers",
    ("evaluation/plots.py", "savefig"): "into a stream of the writer",
    ("transfer/report_plot.py", "savefig"): "into a stream of the writer",
    ("commands/infer_results.py", "savez"): "into a stream of the writer",
    ("deploy/journal.py", "savez"): "into memory",
    ("detection/snapshots.py", "savez"): "into a stream of the writer",
    ("evaluation/reports.py", "savez_compressed"): "into a stream of the writer",
    ("evaluation/detections.py", "savez"): "into a stream of the writer",
    ("solver/scores.py", "savez"): "into memory",
    ("segmentation/stored.py", "savez_compressed"): "into a stream of the writer",
    ("commands/measurements/detector.py", "write_bytes"): "pictures to measure on, in a temporary folder",
    ("commands/measurements/transfer_gpu.py", "write_bytes"): "pictures to measure on, in a temporary folder",
    (
        "commands/measurements/transfer_gpu.py",
        "write_text",
    ): "their list, in a temporary folder",
    ("commands/demo_run.py", "open"): "the log of a step, which grows",
    ("commands/measurements/curve.py", "open"): "no file: what the kernel counts of this process",
    ("commands/measurements/curves_layers.py", "write_text"): "nets to measure, in a temporary folder",
    ("commands/measurements/curves_lists.py", "open"): "lists to measure on, in a temporary folder",
    ("commands/measurements/curves_lists.py", "write_text"): "lists to measure on, in a temporary folder",
    ("commands/measurements/curves_regions.py", "write_text"): "nets to measure, in a temporary folder",
    ("commands/classifying.py", "save"): "into memory",
    ("commands/measurements/loader.py", "write_text"): "a list to measure with, in a temporary folder",
    ("commands/measurements/roi.py", "savez"): "inputs to measure with, in a temporary folder",
    ("datasets/proposal_file.py", "savez_compressed"): "into a stream of the writer",
}


DRAWN = ("report of a training", "page about trainings", "conv1 picture", "drawn clips")
"""Writers that draw for a second each time they are called; the system's own refusal is tried on them always."""


def _drawn_slowly(writers):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in DRAWN)) for name in writers]


class Case:
    """A fresh folder in which a writer can be run."""

    def __init__(self, folder, writer, old, monkeypatch):
        folder.mkdir()
        monkeypatch.chdir(folder)
        self.folder, self.writer = folder, writer
        self.inputs = writer.prepare(folder) if writer.prepare else None
        self.target = folder / writer.name
        if old:
            self.target.write_bytes(b"old")
        self.before = everything(folder)

    def write(self):
        self.writer.write(self.target, self.inputs)

    def check_untouched(self, error, whole):
        """After an error: everything as before; of several files each is whole or as before."""
        found = everything(self.folder)
        assert not [name for name in found if Path(name).name.startswith(".") or name.endswith(".tmp")]
        if not self.writer.many:
            assert found == self.before
            assert self.writer.name in str(error)
            return
        for name, content in found.items():
            if content is not None and content != self.before.get(name):
                head = 128 if name.endswith(".mat") else 0  # the date
                assert content[head:] == whole[name][head:], name
        assert "cannot write" in str(error)


def _cases(tmp_path, writer, monkeypatch):
    """Every other time there is an old file in the place of the target."""
    for number in itertools.count():
        yield Case(tmp_path / str(number), writer, number % 2 and writer.replaces and not writer.many, monkeypatch)


def _fails(action):
    """The package's error that an action raises, None if it succeeds."""
    try:
        action()
    except CaffeCompatError as error:
        return error
    return None


@pytest.mark.parametrize("name", _drawn_slowly(WRITERS))
def test_an_error_at_every_call_and_at_every_size(tmp_path, monkeypatch, name):
    writer = WRITERS[name]
    cases = _cases(tmp_path, writer, monkeypatch)
    good = next(cases)
    with faulty(monkeypatch) as disk:
        good.write()
    whole, calls = everything(good.folder), disk.calls
    assert whole != good.before
    size = sum(len(content) for key, content in whole.items() if content and content != good.before.get(key))
    for call in range(len(calls)):
        case = next(cases)
        with faulty(monkeypatch, call=call) as disk:
            error = _fails(case.write)
        if disk.failed == "sync folder":  # the file is complete
            assert error is None
        else:
            assert error is not None, (call, calls[call])
            case.check_untouched(error, whole)
    if "write" in calls:
        for room in [*range(0, size, max(1, size // STEPS)), size - 1]:
            case = next(cases)
            with faulty(monkeypatch, room=room) as disk:
                error = _fails(case.write)
            assert (error is None) == (disk.failed is None)
            if error is not None:
                case.check_untouched(error, whole)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files")
@pytest.mark.parametrize("name", WRITERS)
def test_files_that_the_system_does_not_let_grow(tmp_path, monkeypatch, capsys, name):
    """The system's own refusal, which meets the writers in C too (LMDB, ONNX).

    ``capsys`` keeps the log in memory; it would go to a file.
    """
    writer = WRITERS[name]
    cases = _cases(tmp_path, writer, monkeypatch)
    good = next(cases)
    good.write()
    whole = everything(good.folder)
    largest = max(len(content) for key, content in whole.items() if content and content != good.before.get(key))
    for size in [*range(0, largest, max(1, largest // STEPS)), largest - 1]:
        case = next(cases)
        with largest_file(size):
            error = _fails(case.write)
        assert error is not None, size
        case.check_untouched(error, whole)


def _calls(path):
    """(name of what is called, whether a file is opened for writing by it) in a module."""
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            words = [str(value.value) for value in given if isinstance(value, ast.Constant)]
            yield name, node, any(set(word) <= set("rwax+btU") and set(word) & set("wax+") for word in words)


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), path


def test_nothing_else_writes_files():
    found = set()
    for module, path in _modules():
        for name, node, writes in _calls(path):
            strings = name in ("replace", "rename") and not _names_a_module(node, ("os", "shutil"))
            if name in DIRECT and not strings:
                found.add((module, name))
            if name in ("open", "File", "fdopen") and writes:
                found.add((module, name))
            if name == "save" and _names_a_module(node, ("np", "torch", "onnx", "numpy")):
                found.add((module, name))
    found -= {("proto/hdf5_file.py", "File")}  # of our own stream
    assert found <= set(ALLOWED), sorted(found - set(ALLOWED))


def _names_a_module(node, names):
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id in names


def test_every_module_that_writes_is_tested_here():
    using = {module for module, path in _modules() for name, _, _ in _calls(path) if name in WRITING}
    tested = {home for writer in WRITERS.values() for home in writer.homes}
    assert using - set(ELSEWHERE) <= tested, sorted(using - set(ELSEWHERE) - tested)
    assert tested <= {module for module, _ in _modules()}
