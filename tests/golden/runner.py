"""Runs golden cases: what BVLC Caffe computed, against this package (``tests/data/golden``, one ``.npz`` per case).

A case holds a JSON text ``case`` (its *spec*) and arrays.  Array names say what they are: ``in/<blob>`` is written,
``out/<blob>``, ``indiff/<blob>``, ``paramdiff/<layer>/<i>`` ... are compared; those of a later pass start with
``p<k>/``, those of a solver's iteration with ``it<k>/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import caffe_compat.pycaffe as caffe

DATA = Path(__file__).resolve().parents[1] / "data" / "golden"
Arrays = dict[str, np.ndarray]


@dataclass
class Case:
    """One case, and what differed when it ran; ``slack`` is allowed besides, as a share of an array's largest value."""

    path: Path
    spec: dict[str, Any]
    arrays: Arrays
    differences: list[str] = field(default_factory=list)
    slack: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Case:
        """Read a case; nothing in it is executed."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return cls(path, json.loads(str(arrays.pop("case")[()])), arrays)

    @property
    def phase(self) -> int:
        """TRAIN or TEST."""
        return int(getattr(caffe, self.spec.get("phase", "TEST")))

    def text(self, name: str, file: str | None = None) -> str:
        """A text of the case; with ``file`` it is written there and the file's name returned."""
        text = str(self.arrays[name][()])
        if file is None:
            return text
        Path(file).write_text(text, encoding="utf-8")
        return file

    def under(self, prefix: str) -> Arrays:
        """Arrays called ``prefix/<name>``, by name, in stored order (which matters where parameters are shared)."""
        start = len(prefix) + 1
        return {name[start:]: self.arrays[name] for name in self.arrays if name.startswith(f"{prefix}/")}

    def params(self, prefix: str) -> dict[tuple[str, int], np.ndarray]:
        """Arrays called ``prefix/<layer>/<index>``, by layer and index."""
        split = {name.rpartition("/"): array for name, array in self.under(prefix).items()}
        return {(layer, int(index)): array for (layer, _, index), array in split.items()}

    def equal(self, what: str, got: Any, wanted: Any) -> None:
        """Note a difference unless both are the same."""
        if got != wanted:
            self.differences.append(f"{what}: {got!r:.300}, expected {wanted!r:.300}")

    def close(self, what: str, got: Any, wanted: np.ndarray) -> None:
        """Note a difference unless shapes agree and ``|got - wanted| <= atol + max(atol_rel, slack) max|wanted| + rtol
        |wanted|``; NaN is near NaN only, an infinity near itself only.
        """
        got = np.asarray(got)
        if got.shape != wanted.shape:
            self.differences.append(f"{what}: shape {got.shape}, expected {wanted.shape}")
            return
        mine, theirs = got.astype(np.float64), wanted.astype(np.float64)
        size = np.abs(theirs)
        finite = np.isfinite(size)
        largest = size[finite].max(initial=0.0)
        spec = self.spec
        with np.errstate(all="ignore"):
            limit = spec.get("atol", 1e-5) + max(spec.get("atol_rel", 0.0), self.slack) * largest
            limit = limit + spec.get("rtol", 1e-4) * size
            near = finite & (np.abs(mine - theirs) <= limit)
        bad = ~(near | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs)))
        if bad.any():
            first = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(bad)))
            a, b = np.atleast_1d(mine)[first], np.atleast_1d(theirs)[first]
            self.differences.append(f"{what}: {bad.sum()} of {bad.size} differ, first at {first}: {a:.8g} for {b:.8g}")


# -- nets --------------------------------------------------------------------------------------------------------


def run_net(case: Case) -> None:
    """Build, fill, and make the passes."""
    net = build(case)
    if "memory_data" in case.spec:
        net.set_input_arrays(case.arrays["memory/data"], case.arrays["memory/labels"])
    for fact, wanted in case.spec.get("facts", {}).items():
        check_fact(case, fact, FACTS[fact](net), wanted)
    for number, step in enumerate(case.spec.get("passes", [])):
        run_pass(case, net, f"p{number}/" if number else "", step)
    for bounds in case.spec.get("stats", []):
        check_statistics(case, net, bounds)
    if "dropout" in case.spec:
        check_dropout(case, net, **case.spec["dropout"])
    if "seed" in case.spec:
        check_seed(case)
    if "written_hdf5" in case.spec:
        del net
        check_hdf5(case, case.spec["written_hdf5"], case.under("h5"))


def build(case: Case) -> Any:
    """The net of a case, with its weights."""
    spec, file = case.spec, case.text("prototxt", "net.prototxt")
    weights = spec.get("weights", {})
    how, source = weights.get("how"), weights.get("file")
    options = {name: spec[name] for name in ("level", "stages") if name in spec}
    if how == "positional":
        net = caffe.Net(file, source, case.phase)
    elif how == "keyword":
        net = caffe.Net(file, case.phase, weights=source, **options)
    else:
        net = caffe.Net(file, case.phase, **options)
    if "formula_seed" in spec:
        fill_by_formula(net, spec["formula_seed"])
    write_params(net, case.params("param"))
    if how == "copy_from":
        for part in source.split(","):
            net.copy_from(part)
    elif how == "load_hdf5":
        net.load_hdf5(source)
    return net


def write_params(net: Any, params: Mapping[tuple[str, int], np.ndarray]) -> None:
    """Write parameters; shapes must agree."""
    for (layer, index), value in params.items():
        blob = net.params[layer][index]
        assert tuple(blob.shape) == value.shape, (layer, index, list(blob.shape), value.shape)
        blob.data[...] = value


def write_inputs(net: Any, inputs: Arrays) -> None:
    """Write blobs, reshaped first where the shape differs."""
    for name, value in inputs.items():
        if tuple(net.blobs[name].shape) != value.shape:
            net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value


def fill_by_formula(net: Any, seed: int) -> None:
    """Weights of whole nets, from one random stream in the order of ``net.params``."""
    random = np.random.RandomState(seed)
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers), strict=True))
    for layer, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            shape = tuple(blob.shape)
            x = random.standard_normal(shape)
            if types[layer] == "BatchNorm":
                value: Any = (0.1 * x, 0.5 + abs(x), np.ones(shape))[index]
            elif types[layer] == "Scale":
                value = (1 + 0.1 * x, 0.1 * x)[index]
            elif types[layer] == "PReLU":
                value = 0.25 + 0.05 * x
            else:
                value = x * np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01 * x
            blob.data[...] = value


def sample(array: Any) -> np.ndarray:
    """Up to 96 evenly spaced values."""
    flat = np.ravel(array)
    return flat[np.unique(np.linspace(0, flat.size - 1, 96).astype(np.int64))]


FACTS: dict[str, Callable[[Any], Any]] = {
    "layer_names": lambda net: list(net._layer_names),
    "layer_types": lambda net: [layer.type for layer in net.layers],
    "blob_names": lambda net: list(net.blobs),
    "blob_shapes": lambda net: {name: list(blob.shape) for name, blob in net.blobs.items()},
    "param_shapes": lambda net: {name: [list(blob.shape) for blob in blobs] for name, blobs in net.params.items()},
    "inputs": lambda net: list(net.inputs),
    "outputs": lambda net: list(net.outputs),
    "tops": lambda net: {name: list(tops) for name, tops in net.top_names.items()},
    "bottoms": lambda net: {name: list(bottoms) for name, bottoms in net.bottom_names.items()},
    "loss_weights": lambda net: {name: float(weight) for name, weight in net.blob_loss_weights.items()},
    "layer_blob_counts": lambda net: [len(layer.blobs) for layer in net.layers],
    "legacy_dims": lambda net: {
        name: [blob.num, blob.channels, blob.height, blob.width, blob.count] for name, blob in net.blobs.items()
    },
}


def check_fact(case: Case, fact: str, got: Any, wanted: Any) -> None:
    """Compare a fact; of a dict, entry by entry."""
    if not isinstance(wanted, dict):
        case.equal(fact, got, wanted)
        return
    case.equal(f"keys of {fact}", sorted(got), sorted(wanted))
    for name in wanted.keys() & got.keys():
        case.equal(f"{fact} of {name!r}", got[name], wanted[name])


def run_pass(case: Case, net: Any, prefix: str, step: dict[str, Any]) -> None:
    """One pass: inputs, forward, compare, gradients of the tops, backward, compare."""
    inputs = case.under(f"{prefix}in")
    for name, formula in step.get("formula_inputs", {}).items():
        random = np.random.RandomState(formula["seed"])
        inputs[name] = random.uniform(formula["low"], formula["high"], formula["shape"]).astype(np.float32)
    options = dict(step.get("forward") or {})
    if options.pop("as_kwargs", False):
        options |= inputs
    else:
        write_inputs(net, inputs)
    if step.get("reshape"):
        net.reshape()
        for name, shape in step.get("shapes_after_reshape", {}).items():
            case.equal(f"{prefix}shape of {name}", list(net.blobs[name].shape), shape)
    if "forward_all" in step:
        results = net.forward_all(blobs=step["forward_all"], **case.under(f"{prefix}allin"))
        for name, wanted in case.under(f"{prefix}allout").items():
            case.close(f"{prefix}forward_all()[{name!r}]", results[name], wanted)
    if step.get("forward", True) is not False:
        for _ in range(step.get("repeat", 1)):
            results = net.forward(**options)
        check_returned(case, f"{prefix}forward()", results, step.get("returned"), case.under(f"{prefix}out"))
    blobs = {name: blob.data for name, blob in net.blobs.items()}
    compare(case, prefix, ("out", "sample"), blobs)
    compare(case, prefix, ("paramout", ""), {(n, i): b.data for n, v in net.params.items() for i, b in enumerate(v)})
    if "backward" in step:
        run_backward(case, net, prefix, step)


def run_backward(case: Case, net: Any, prefix: str, step: dict[str, Any]) -> None:
    """The second half of a pass."""
    if step["backward"].get("clear_param_diffs"):
        net.clear_param_diffs()
    for name, value in case.under(f"{prefix}topdiff").items():
        net.blobs[name].diff[...] = value
    options = {name: value for name, value in step["backward"].items() if name in ("start", "end", "diffs")}
    check_returned(case, f"{prefix}backward()", net.backward(**options), step.get("returned_diffs"), {})
    compare(case, prefix, ("indiff", "samplediff"), {name: blob.diff for name, blob in net.blobs.items()})
    diffs = {(name, index): blob.diff for name, blobs in net.params.items() for index, blob in enumerate(blobs)}
    compare(case, prefix, ("paramdiff", "sampleparamdiff"), diffs)


def compare(case: Case, prefix: str, groups: tuple[str, str], got: Mapping[Any, np.ndarray]) -> None:
    """Compare whole arrays (first group) and samples of arrays (second group)."""
    for group, view in zip(groups, (np.asarray, sample), strict=True):
        of_params = group.startswith(("param", "sampleparam"))
        wanted: Mapping[Any, np.ndarray] = case.params(prefix + group) if of_params else case.under(prefix + group)
        for name, array in wanted.items():
            case.close(f"{prefix}{group} {name}", view(got[name]), array)


def check_returned(case: Case, what: str, got: Arrays, names: list[str] | None, values: Arrays) -> None:
    """What forward() or backward() returned: exactly these names, and these values where known."""
    if names is None:
        return
    case.equal(f"keys of {what}", sorted(got), names)
    for name in got.keys() & values.keys():
        case.close(f"{what}[{name!r}]", got[name], values[name])


# -- what has no fixed numbers -----------------------------------------------------------------------------------


def check_statistics(case: Case, net: Any, wanted: dict[str, Any]) -> None:
    """A random filler: statistics within bounds."""
    layer, index = wanted["param"]
    values = np.array(net.params[layer][index].data, np.float64)
    sums = values.reshape(len(values), -1).sum(axis=1)
    got = {
        "mean": values.mean(),
        "std": values.std(),
        "min": values.min(),
        "max": values.max(),
        "zeros": np.mean(values == 0),
        "row_sum_min": sums.min(),
        "row_sum_max": sums.max(),
    }
    for name, (low, high) in wanted["bounds"].items():
        if not low <= got[name] <= high:
            case.differences.append(f"{name} of {layer}/{index}: {got[name]:.6g}, expected {low:.6g} to {high:.6g}")


def check_dropout(case: Case, net: Any, bottom: str, top: str, ratio: float, slack: float) -> None:
    """Values are dropped or scaled, about ``ratio`` of them dropped, and the gradient by the same mask."""
    below, above = net.blobs[bottom], net.blobs[top]
    mask = (above.data != 0) / (1 - ratio)
    case.close("dropout output", above.data, below.data * mask)
    case.close("dropout gradient", below.diff, above.diff * mask)
    dropped = np.mean(mask == 0)
    case.equal(f"whether {dropped:.3f} dropped is near {ratio}", bool(abs(dropped - ratio) <= slack), True)


def check_seed(case: Case) -> None:
    """The same seed gives the same parameters, another seed others."""

    def draw(seed: int) -> list[np.ndarray]:
        caffe.set_random_seed(seed)
        net = caffe.Net("net.prototxt", case.phase)
        return [np.array(blob.data) for blobs in net.params.values() for blob in blobs]

    seed = case.spec["seed"]
    first, second, other = draw(seed), draw(seed), draw(seed + 1)
    case.equal("same seed, same parameters", all(map(np.array_equal, first, second)), True)
    case.equal("other seed, same parameters", all(map(np.array_equal, first, other)), False)


def check_hdf5(case: Case, file: str, wanted: Arrays) -> None:
    """An HDF5 file that the net wrote."""
    import h5py

    with h5py.File(file) as stored:
        case.equal(f"datasets in {file}", sorted(stored), sorted(wanted))
        for name, array in wanted.items():
            case.close(f"{file}: {name}", stored[name][()], array)
