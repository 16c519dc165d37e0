"""Golden cases of solvers, saved files, ``caffe.io`` and refusals: scripts of operations (see :mod:`golden.runner`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from golden.runner import Case, build, run_net, write_inputs, write_params

import caffe_compat.pycaffe as caffe
from caffe_compat.proto import caffe_pb2


def parsed(kind: Any, data: bytes) -> Any:
    """A message from bytes, read by protobuf itself."""
    message = kind()
    message.ParseFromString(data)
    return message


def blob_array(blob: Any) -> np.ndarray:
    """Values of a BlobProto."""
    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    return np.array(blob.double_data or blob.data).reshape(shape)


# -- solvers -----------------------------------------------------------------------------------------------------


def run_solver(case: Case) -> None:
    """Train as the script says and compare after each iteration."""
    case.text("solver", "solver.prototxt")
    if "prototxt" in case.arrays:
        case.text("prototxt", "net.prototxt")
    solver: Any = None
    for operation, argument in case.spec["script"]:
        if operation == "create":
            solver = create_solver(case)
        elif operation == "params":
            write_params(solver.net, case.params("param"))
        elif operation == "restore":
            solver.restore(argument)
            case.equal("iter restored", solver.iter, case.spec.get("restored_iter", solver.iter))
        elif operation == "step":
            for _ in range(argument):
                coming = solver.iter + 1
                write_inputs(solver.net, case.under(f"it{coming}/in"))
                solver.step(1)
                case.equal("iter", solver.iter, coming)
                check_iteration(case, solver)
        elif operation == "step_many":
            solver.step(argument)
            check_iteration(case, solver)
        elif operation == "solve":
            solver.solve()
            check_iteration(case, solver)
        elif operation == "snapshot":
            solver.snapshot()
        elif operation == "files":
            case.equal("files missing", [name for name in argument if not Path(name).is_file()], [])
        elif operation == "state":
            check_state(case, argument)
        elif operation == "model":
            check_model(case, argument, solver.net)
        elif operation == "test_net":
            for name, wanted in case.under(f"test{argument[1]}/out").items():
                case.close(f"test net blob {name}", solver.test_nets[argument[0]].blobs[name].data, wanted)
        else:
            raise AssertionError(f"unknown operation {operation}")


def create_solver(case: Case) -> Any:
    """The solver of the case, with its inputs."""
    constructor = case.spec.get("constructor")
    solver = (getattr(caffe, constructor) if constructor else caffe.get_solver)("solver.prototxt")
    case.equal("class", type(solver).__name__, case.spec.get("solver_class", type(solver).__name__))
    write_inputs(solver.net, case.under("in"))
    return solver


def check_iteration(case: Case, solver: Any) -> None:
    """Parameters, blobs and rate that Caffe had after this iteration."""
    now = f"it{solver.iter}"
    for (layer, index), wanted in case.params(f"{now}/param").items():
        case.close(f"{now}: param {layer}/{index}", solver.net.params[layer][index].data, wanted)
    for name, wanted in case.under(f"{now}/out").items():
        case.close(f"{now}: blob {name}", solver.net.blobs[name].data, wanted)
    if f"{now}/lr" in case.arrays:
        case.close(f"{now}: lr", solver.lr, case.arrays[f"{now}/lr"])


def check_state(case: Case, file: str) -> None:
    """A binary ``.solverstate``."""
    state = parsed(caffe_pb2.SolverState, Path(file).read_bytes())
    wanted = case.spec["state"]
    for name in ("iter", "current_step", "learned_net"):
        case.equal(f"{file}: {name}", getattr(state, name), wanted[name])
    history = case.under("history")
    case.equal(f"{file}: history blobs", len(state.history), len(history))
    for index, blob in enumerate(state.history):
        case.close(f"{file}: history {index}", blob_array(blob), history[str(index)])


# -- saved nets --------------------------------------------------------------------------------------------------


def run_save(case: Case) -> None:
    """Save a net, look into the file, load it into another net."""
    net, file = build(case), case.spec["filename"]
    again = caffe.Net("net.prototxt", case.phase)
    if case.spec["how"] == "hdf5":
        net.save_hdf5(file)
        check_hdf5_model(case, file)
        again.load_hdf5(file)
    else:
        net.save(file)
        check_model(case, file, net)
        again.copy_from(file)
    for (layer, index), wanted in case.params("param").items():
        case.close(f"reloaded {layer}/{index}", again.params[layer][index].data, wanted)


def check_hdf5_model(case: Case, file: str) -> None:
    """A ``.caffemodel.h5``."""
    with h5py.File(file) as stored:
        case.equal("groups", sorted(stored["data"]), sorted(case.spec["hdf5_groups"]))
        for (layer, index), wanted in case.params("saved").items():
            case.close(f"{file}: {layer}/{index}", stored[f"data/{layer}/{index}"][()], wanted)
        case.equal("datasets too many", [name for name in case.spec.get("hdf5_absent", []) if name in stored], [])


def check_model(case: Case, file: str, net: Any) -> None:
    """A binary ``.caffemodel`` holds all layers of the net with their blobs."""
    model = parsed(caffe_pb2.NetParameter, Path(file).read_bytes())
    case.equal(f"{file}: name", model.name, case.spec.get("model_name", model.name))
    case.equal(f"{file}: layers", [layer.name for layer in model.layer], list(net._layer_names))
    case.equal(f"{file}: types", [layer.type for layer in model.layer], [layer.type for layer in net.layers])
    for layer in model.layer:
        blobs = net.params.get(layer.name, [])
        case.equal(f"{file}: blobs of {layer.name}", len(layer.blobs), len(blobs))
        for index, (stored, blob) in enumerate(zip(layer.blobs, blobs, strict=False)):
            case.close(f"{file}: {layer.name}/{index}", blob_array(stored), np.array(blob.data))


# -- caffe.io ----------------------------------------------------------------------------------------------------


def run_io(case: Case) -> None:
    """Call a function of ``caffe.io``."""
    IO[case.spec["function"]](case)


def _layer_types(case: Case) -> None:
    case.equal("types missing", sorted(set(case.spec["types"]) - set(caffe.layer_type_list())), [])


def _read_vector(case: Case) -> None:
    wanted = case.under("array")
    got = caffe.io.blobprotovector_str_to_arraylist(case.arrays["bytes"].tobytes())
    case.equal("number of blobs", len(got), len(wanted))
    for index, array in enumerate(got):
        case.close(f"blob {index}", array, wanted[str(index)])


def _write_vector(case: Case) -> None:
    arrays = [case.arrays[f"array/{index}"] for index in range(len(case.under("array")))]
    written = parsed(caffe_pb2.BlobProtoVector, caffe.io.arraylist_to_blobprotovector_str(arrays))
    case.equal("number of blobs", len(written.blobs), len(arrays))
    for index, blob in enumerate(written.blobs):
        case.close(f"blob {index}", blob_array(blob), arrays[index])


def _read_blob(case: Case) -> None:
    blob = parsed(caffe.proto.caffe_pb2.BlobProto, Path(case.spec["file"]).read_bytes())
    case.close("array", caffe.io.blobproto_to_array(blob), case.arrays["array"])
    if "diff" in case.arrays:
        case.close("diff", caffe.io.blobproto_to_array(blob, return_diff=True), case.arrays["diff"])


def _write_blob(case: Case) -> None:
    case.close("array", blob_array(caffe.io.array_to_blobproto(case.arrays["array"])), case.arrays["array"])


def _read_datum(case: Case) -> None:
    datum = parsed(caffe.proto.caffe_pb2.Datum, case.arrays["bytes"].tobytes())
    case.close("array", caffe.io.datum_to_array(datum), case.arrays["array"])
    case.equal("label", datum.label, case.spec["label"])


def _write_datum(case: Case) -> None:
    array = case.arrays["array"]
    written = caffe.io.array_to_datum(array, case.spec["label"]).SerializeToString()
    datum = parsed(caffe_pb2.Datum, written)
    case.equal("shape", (datum.channels, datum.height, datum.width), array.shape)
    case.equal("written as bytes", bool(datum.data), case.spec["as_bytes"])
    case.equal("label", datum.label, case.spec["label"])
    case.close("array", caffe.io.datum_to_array(datum), array)


def _transform(case: Case) -> None:
    transformer = caffe.io.Transformer({"data": tuple(case.spec["shape"])})
    for setting, value in case.spec["settings"]:
        getattr(transformer, f"set_{setting}")("data", case.arrays["mean"] if setting == "mean" else value)
    wanted = case.arrays["preprocessed"]
    case.close("preprocess", transformer.preprocess("data", case.arrays["image"].copy()), wanted)
    if "deprocessed" in case.arrays:
        case.close("deprocess", transformer.deprocess("data", wanted.copy()), case.arrays["deprocessed"])


def _resize(case: Case) -> None:
    got = caffe.io.resize_image(case.arrays["image"], tuple(case.spec["new_dims"]), case.spec["order"])
    case.close("resized", got, case.arrays["resized"])


def _oversample(case: Case) -> None:
    got = caffe.io.oversample(list(case.arrays["images"]), np.array(case.spec["crop_dims"]))
    case.close("crops", got, case.arrays["crops"])


IO: dict[str, Callable[[Case], None]] = {
    "layer_type_list": _layer_types,
    "blobprotovector_str_to_arraylist": _read_vector,
    "arraylist_to_blobprotovector_str": _write_vector,
    "blobproto_to_array": _read_blob,
    "array_to_blobproto": _write_blob,
    "datum_to_array": _read_datum,
    "array_to_datum": _write_datum,
    "Transformer": _transform,
    "resize_image": _resize,
    "oversample": _oversample,
}


# -- refusals ----------------------------------------------------------------------------------------------------


def run_error(case: Case) -> None:
    """The script must be refused, naming the offender; the corrected script, where there is one, must pass."""
    if "control" in case.spec:
        _Attempt(case).run(case.spec["control"])
    attempt = _Attempt(case)
    try:
        attempt.run(case.spec["script"])
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if not any(part.lower() in message.lower() for part in case.spec["expect_any"]):
            case.differences.append(f"the message names none of {case.spec['expect_any']}: {message:.400}")
        return
    case.differences.append(f"accepted, expected a refusal: {case.spec['doc']}")


class _Attempt:
    """Operations of a refusal's script."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.net: Any = None
        self.solver: Any = None

    def run(self, script: Sequence[tuple[str, Any]]) -> None:
        for operation, argument in script:
            getattr(self, f"do_{operation}")(argument)

    def do_write(self, name: str) -> None:
        self.case.text(name, name)

    def do_net(self, file: str) -> None:
        self.net = caffe.Net(file, self.case.phase)

    def do_net_weights(self, files: Sequence[str]) -> None:
        self.net = caffe.Net(files[0], files[1], self.case.phase)

    def do_net_weights_keyword(self, files: Sequence[str]) -> None:
        self.net = caffe.Net(files[0], self.case.phase, weights=files[1])

    def do_copy_from(self, file: str) -> None:
        self.net.copy_from(file)

    def do_load_hdf5(self, file: str) -> None:
        self.net.load_hdf5(file)

    def do_set(self, name: str) -> None:
        write_inputs(self.net, {name: self.case.arrays[f"in/{name}"]})

    def do_reshape_blob(self, argument: tuple[str, Sequence[int]]) -> None:
        self.net.blobs[argument[0]].reshape(*argument[1])

    def do_reshape(self, _: None) -> None:
        self.net.reshape()

    def do_forward(self, options: dict[str, Any] | None) -> None:
        self.net.forward(**(options or {}))

    def do_forward_kwargs(self, names: Sequence[str]) -> None:
        self.net.forward(**{name: self.case.arrays[f"in/{name}"] for name in names})

    def do_backward(self, _: None) -> None:
        self.net.backward()

    def do_get_blob(self, name: str) -> None:
        self.net.blobs[name]

    def do_memory_data(self, _: None) -> None:
        self.net.set_input_arrays(self.case.arrays["memory/data"], self.case.arrays["memory/labels"])

    def do_solver(self, file: str) -> None:
        self.solver = caffe.get_solver(file)

    def do_solver_step(self, count: int) -> None:
        self.solver.step(count)

    def do_restore(self, file: str) -> None:
        self.solver.restore(file)


# -- all kinds ---------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Case], None]] = {
    "net": run_net,
    "solver": run_solver,
    "save": run_save,
    "io": run_io,
    "error": run_error,
}


def run(path: Path, folder: Path, slack: float = 0.0) -> list[str]:
    """Run a case in ``folder``, which must be the current folder; returns the differences.

    Args:
        slack: see :class:`Case`.
    """
    case = Case.load(path)
    case.slack = slack
    for name in case.spec.get("files", []):
        source, target = path.parent / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    KINDS[case.spec["kind"]](case)
    return case.differences
