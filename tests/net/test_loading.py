"""load_net(mmap=, device=): the same net, another way for its weights to get there."""

import contextlib
import mmap
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT
from gpu import needs_gpu

from caffe_compat import load_net
from caffe_compat.errors import ModelFileError, UsageError
from caffe_compat.net import staging
from caffe_compat.net.load import load_description, net_of
from caffe_compat.proto import blob as blob_module
from caffe_compat.proto import caffe_pb2, mapping, weights

NET = """name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { name: "w" }
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.3 } } }
layer { name: "again" type: "Convolution" bottom: "data" top: "again" param { name: "w" }
  convolution_param { num_output: 5 kernel_size: 3 bias_filler { value: 0.1 } } }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "again" top: "sum" }
layer { name: "ip" type: "InnerProduct" bottom: "sum" top: "ip"
  inner_product_param { num_output: 3000 weight_filler { type: "xavier" } } }
layer { name: "new" type: "InnerProduct" bottom: "ip" top: "new"
  inner_product_param { num_output: 2 weight_filler { value: 0.25 } } }
"""


class Files:
    """A net and its weights, in files."""

    def __init__(self, folder):
        self.prototxt, self.model = folder / "n.prototxt", folder / "n.caffemodel"
        self.aligned, self.hdf5 = folder / "aligned.caffemodel", folder / "n.caffemodel.h5"
        self.prototxt.write_text(NET.replace('"new"', '"other"'))
        torch.manual_seed(0)
        net = load_net(self.prototxt)
        net.save(self.model)
        net.save(self.aligned, aligned=True)
        net.save_hdf5(self.hdf5)
        self.prototxt.write_text(NET)

    def load(self, weights_file, **options):
        return load_net(self.prototxt, weights_file, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level("WARNING")


def same_parameters(one, other):
    for (name, mine), (_, theirs) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, msg=name)


def is_mapped(parameter, path):
    """Whether the memory of a parameter is a mapping of a file, as the system says."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            ends, *_, name = line.split(maxsplit=5)
            first, last = (int(end, 16) for end in ends.split("-"))
            if first <= parameter.data_ptr() < last:
                return name.strip() == os.path.realpath(path)
    return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize("which", ["aligned", "model", "hdf5"])
def test_mapped_weights_are_the_same(files, which, caplog):
    path = getattr(files, which)
    wanted, got = files.load(path), files.load(path, mmap=True)
    same_parameters(got, wanted)
    data = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(got(data=data)["new"], wanted(data=data)["new"])
    of_file = [got.layer(name).blobs[index] for name in ("c", "again", "ip") for index in (0, 1)]
    mapped = [is_mapped(parameter, path) for parameter in of_file]
    assert not is_mapped(got.layer("new").blobs[0], path)
    told = [line for line in caplog.messages if "cannot be mapped" in line]
    if which == "model":
        assert mapped.count(False) > 0
        different = {parameter.data_ptr() for parameter, found in zip(of_file, mapped, strict=True) if not found}
        assert f"{path}: {len(different)} of 5 blobs" in told[0] and "aligned=True" in told[0]
    else:
        assert all(mapped) and not told
    assert got.layer("c").blobs[0] is got.layer("again").blobs[0]


@pytest.mark.parametrize("which", ["aligned", "hdf5"])
def test_what_is_written_to_stays_with_the_process(files, which):
    path = getattr(files, which)
    before = path.read_bytes()
    net, other = files.load(path, mmap=True), files.load(path, mmap=True)
    wanted = files.load(path)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2).add_(1)
    net.loss(net(data=torch.ones(2, 3, 9, 9)))
    net(data=torch.ones(2, 3, 9, 9))["new"].sum().backward()
    assert net.layer("ip").blobs[0].grad.abs().sum() > 0
    assert path.read_bytes() == before
    same_parameters(other, wanted)


def test_a_file_that_is_replaced_or_removed_stays(files, tmp_path):
    path = tmp_path / "n.caffemodel"
    path.write_bytes(files.aligned.read_bytes())
    wanted, net = files.load(path), files.load(path, mmap=True)
    fresh = load_net(files.prototxt)
    fresh.save(path)
    same_parameters(net, wanted)
    path.unlink()
    same_parameters(net, wanted)


def test_a_mapping_ends_with_its_parameters(files):
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    net = files.load(files.aligned, mmap=True)
    bias = net.layer("c").blobs[1].detach()
    wanted = bias.clone()
    del net
    torch.testing.assert_close(bias, wanted)
    del bias
    with open("/proc/self/maps") as maps:
        assert str(files.aligned) not in maps.read()


def test_several_files_are_mapped(files, tmp_path):
    last = tmp_path / "last.caffemodel"
    message = caffe_pb2.LayerParameter(name="new", type="InnerProduct")
    values = [np.full((2, 3000), 7, "f4"), np.array([1, 2], "f4")]
    weights.write(last, "n", [(message, values)], aligned=True)
    net = files.load([files.aligned, last], mmap=True)
    same_parameters(net, files.load([files.aligned, last]))
    assert net.layer("new").blobs[1].tolist() == [1, 2]


def test_numbers_that_are_no_run_of_floats_are_copied(files, tmp_path, caplog):
    description = load_description(files.prototxt)
    odd = tmp_path / "odd.caffemodel"
    message = caffe_pb2.NetParameter.FromString(files.aligned.read_bytes())
    for layer in message.layer:
        for blob in layer.blobs:
            blob.double_data.extend(blob.data)
            del blob.data[:]
    odd.write_bytes(message.SerializeToString())
    same_parameters(net_of(description, odd, mmap=True), files.load(files.aligned))
    assert "5 of 5 blobs" in caplog.text


@pytest.mark.parametrize("spare", range(4))
def test_aligned_files_are_read_by_everybody(files, tmp_path, spare):
    """Whatever the lengths of names are: with gradients, empty blobs and scalars."""
    path = tmp_path / "a.caffemodel"
    layers = [
        (caffe_pb2.LayerParameter(name="x" * spare, type="A", phase=1), [np.arange(200, dtype="f4"), np.ones(3, "f4")],
         [np.arange(200, dtype="f4") / 3, np.zeros(3, "f4")]),
        (caffe_pb2.LayerParameter(name="s"), []),
        (caffe_pb2.LayerParameter(name="e"), [np.zeros((0, 2), "f4"), np.float32(4).reshape(())]),
    ]  # fmt: skip
    weights.write(path, "n" * spare, layers, aligned=True)
    plain = tmp_path / "p.caffemodel"
    weights.write(plain, "n" * spare, layers)
    read, expected = (caffe_pb2.NetParameter.FromString(file.read_bytes()) for file in (path, plain))
    assert read == expected and read.SerializeToString() == plain.read_bytes()
    blobs = [blob for layer in weights.scan(path).layers for blob in layer.blobs]
    assert [blob.place % 4 for blob in blobs if blob.count] == [0, 0, 0]
    assert [view is None for view in mapping.map_blobs(blobs)] == [False, False, True, False]
    for blob, view in zip(blobs, mapping.map_blobs(blobs), strict=True):
        if view is not None:
            np.testing.assert_array_equal(view, blob.read().reshape(-1))
    np.testing.assert_array_equal(blobs[0].diff(), layers[0][2][0])


def test_a_file_that_changes_between_the_scan_and_the_mapping(files, tmp_path):
    path = tmp_path / "m.caffemodel"
    path.write_bytes(files.aligned.read_bytes())
    blobs = [blob for layer in weights.scan(path).layers for blob in layer.blobs]
    path.write_bytes(files.aligned.read_bytes()[:-5])
    with pytest.raises(ModelFileError, match=r"m\.caffemodel: the file changed"):
        mapping.map_blobs(blobs)


def test_a_file_that_cannot_be_mapped(files, monkeypatch):
    def fail(*_, **__):
        raise OSError(19, "No such device")

    monkeypatch.setattr(mmap, "mmap", fail)
    with pytest.raises(ModelFileError, match=r"aligned\.caffemodel: cannot be mapped into memory: .*No such device"):
        files.load(files.aligned, mmap=True)


def test_places_beyond_the_end_of_a_file(files):
    with pytest.raises(ModelFileError, match="ends early"):
        mapping.map_places(files.aligned, [(0, 10**8)])


def test_hdf5_that_is_chunked_or_double_is_copied(files, tmp_path, caplog):
    path = tmp_path / "n.caffemodel.h5"
    with h5py.File(files.hdf5) as source, h5py.File(path, "w") as target:
        for layer in source["data"]:
            for index in source["data"][layer]:
                values = source["data"][layer][index][()]
                if layer == "ip":
                    target.create_dataset(f"data/{layer}/{index}", data=values, chunks=values.shape)
                else:
                    target.create_dataset(f"data/{layer}/{index}", data=values.astype("f8"))
    same_parameters(files.load(path, mmap=True), files.load(files.hdf5))
    assert "5 of 5 blobs" in caplog.text


def test_the_page_s_program_runs(files, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "processes.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.prototxt").write_text(files.prototxt.read_text())
    (tmp_path / "net.caffemodel").write_bytes(files.model.read_bytes())
    names = {}
    exec(program, names)  # noqa: S102 - the page's own
    same_parameters(names["net"], files.load(files.model))
    assert sys.platform != "linux" or is_mapped(names["net"].layer("c").blobs[0], tmp_path / "mapped.caffemodel")


def test_wrong_options(files):
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmap'"):
        files.load(files.aligned, nmap=True)
    with pytest.raises(UsageError, match="device is 'gpu0', expected"):
        files.load(files.aligned, device="gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device: cannot use a GPU"):
            files.load(files.aligned, device="cuda")
    same_parameters(files.load(files.aligned, device="cpu"), files.load(files.aligned))


@linux
def test_a_mapping_costs_no_memory(tmp_path):
    """64 MiB of weights in a process of its own: its own memory does not grow by as much as a tenth of them."""
    prototxt, model = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    prototxt.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4096 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 4096 } }\n'
    )
    message = caffe_pb2.LayerParameter(name="ip", type="InnerProduct")
    weights.write(model, "n", [(message, [np.ones((4096, 4096), "f4"), np.ones(4096, "f4")])], aligned=True)
    code = (
        "import sys, caffe_compat.net.load as load\n"
        "def own(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon'))\n"
        "before = own(); net = load.load_net(sys.argv[1], sys.argv[2], mmap=True)\n"
        "assert net.layer('ip').blobs[0].sum() == 4096 * 4096; print(own() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, prototxt, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 6500


class _Sent:
    """What a lane would put on a GPU: it arrives only when somebody waits for it."""

    def __init__(self, log):
        self.log, self.waiting = log, []

    def record(self, stream):
        self.waiting, stream.copies = stream.copies, []

    def synchronize(self):
        for target, part in self.waiting:
            target.copy_(part)
        self.waiting = []


class _Stream:
    """A stream on which nothing arrives until it is waited for."""

    def __init__(self, *_):
        self.copies, self.events = [], []

    def wait_stream(self, other):
        pass

    def synchronize(self):
        for event in self.events:
            event.synchronize()


class _Late:
    """A tensor on the pretended GPU: copies of parts of it wait on the stream that is current."""

    current = None

    def __init__(self, tensor):
        self.tensor, self.device = tensor, torch.device("cuda", 0)

    def detach(self):
        return self

    def view(self, _):
        return self

    def __getitem__(self, where):
        return _Late(self.tensor.view(-1)[where])

    def copy_(self, part, non_blocking):
        assert non_blocking
        _Late.current.copies.append((self.tensor, part))


def test_staging_waits_for_a_part_before_it_is_filled_again(files, monkeypatch):
    """On a pretended GPU whose copies happen as late as they can: a part that is filled too early shows."""
    streams = []

    def stream(*_):
        streams.append(_Stream())
        return streams[-1]

    def event():
        made = _Sent(None)
        for one in streams:
            one.events.append(made)
        return made

    @contextlib.contextmanager
    def current(which):
        before, _Late.current = _Late.current, which
        yield
        _Late.current = before

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    for name, value in (("Stream", stream), ("Event", event), ("stream", current), ("current_stream", _Stream)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(staging, "PART", 4 * 100)
    monkeypatch.setattr(blob_module, "PART", 4 * 100)
    monkeypatch.setattr(blob_module, "cores", lambda: 1)
    blobs = [blob for layer in weights.scan(files.model).layers for blob in layer.blobs]
    targets = [torch.full((blob.count,), -1.0) for blob in blobs]
    staging.read_staged([(blob, _Late(target)) for blob, target in zip(blobs, targets, strict=True)])
    for blob, target in zip(blobs, targets, strict=True):
        np.testing.assert_array_equal(target.numpy(), blob.read().reshape(-1))


@needs_gpu
@pytest.mark.parametrize("which", ["model", "aligned", "hdf5"])
def test_weights_arrive_on_the_gpu(files, which):
    path = getattr(files, which)
    net = files.load(path, device="cuda")
    assert {parameter.device for parameter in net.parameters()} == {torch.device("cuda", 0)}
    same_parameters(net.cpu(), files.load(path))


@needs_gpu
def test_a_mapping_is_no_memory_of_a_gpu(files):
    with pytest.raises(UsageError, match="leave one out"):
        files.load(files.aligned, mmap=True, device="cuda")
