"""Random nets with in-place layers, splits and aliases: the module and the engine are two interpreters of one plan."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import BlobNet, Net, load_net
from caffe_compat.errors import ShapeError

IN_PLACE = (
    ("ReLU", ""), ("ReLU", "relu_param { negative_slope: 0.3 }"), ("Sigmoid", ""), ("TanH", ""), ("Dropout", ""),
    ("ELU", "elu_param { alpha: 0.7 }"), ("Exp", "exp_param { scale: 0.3 }"), ("PReLU", ""), ("Softmax", ""),
    ("Power", "power_param { power: 2 scale: 0.4 shift: 0.3 }"), ("Power", "power_param { scale: 1.2 }"), ("BNLL", ""),
    ("Scale", 'scale_param { bias_term: true filler { type: "gaussian" std: 1 } }'), ("Swish", ""),
    ("Bias", 'bias_param { filler { type: "gaussian" std: 1 } }'), ("Clip", "clip_param { min: -0.5 max: 0.7 }"),
    ("BatchNorm", "batch_norm_param { use_global_stats: false eps: 0.01 }"),
)  # fmt: skip
OF_MAPS = (
    ("MVN", ""), ("LRN", "lrn_param { local_size: 3 alpha: 0.5 }"),
    ("Convolution", 'convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 0.6 } }'),
)  # fmt: skip
ALIASES = (("Flatten", ""), ("Reshape", "reshape_param { shape { dim: 0 dim: 3 dim: -1 dim: 1 } }"), ("Concat", ""),
           ("Slice", ""))  # fmt: skip


class Writer:
    """Writes a net layer by layer; ``open`` are the blobs that nobody has consumed, with whether they are maps."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines = [
            'force_backward: true layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 dim: 2'
            " dim: 2 } } }"
        ]
        self.open: dict[str, bool] = {"in": True}
        self.layer("Convolution", OF_MAPS[2][1], ["in"], 1, True)
        for _ in range(self.random.randint(3, 9)):
            self.step()
        for number, blob in enumerate(list(self.open)):
            loss = f"loss_weight: {0.5 + number} reduction_param {{ operation: SUMSQ }}"
            self.layer("Reduction", loss, [blob], 1, True)

    def layer(self, kind: str, body: str, bottoms: list[str], tops: int, maps: bool) -> None:
        number = len(self.lines)
        names = [f"b{number}_{index}" for index in range(tops)]
        words = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in names or bottoms]
        self.lines.append(f'layer {{ name: "l{number}" type: "{kind}" {" ".join(words)} {body} }}')
        for name in bottoms if names else ():
            del self.open[name]
        self.open.update(dict.fromkeys(names, maps))

    def step(self) -> None:
        blob = self.random.choice(list(self.open))
        maps, choice = self.open[blob], self.random.random()
        if choice < 0.45:
            self.layer(*self.random.choice(IN_PLACE), [blob], 0, maps)
        elif choice < 0.62:
            self.layer(*self.random.choice(IN_PLACE + OF_MAPS * maps), [blob], 1, maps)
        elif choice < 0.8:
            kind, body = self.random.choice(ALIASES)
            self.layer(kind, body, [blob], 1, kind == "Reshape" or (maps and kind != "Flatten"))
        elif choice < 0.92:
            self.layer("Split", "", [blob], 2, maps)
        elif len(self.open) > 1:
            pair = self.random.sample(list(self.open), 2)
            operation = self.random.choice(("SUM", "PROD", "MAX"))
            if len({self.open[name] for name in pair}) == 1 and maps == self.open[pair[0]]:
                self.layer("Eltwise", f"eltwise_param {{ operation: {operation} }}", pair, 1, maps)


def gradients(net: Net, run: str, values: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss, and gradients of the input and of all parameters; ``seen`` looks at every blob first."""
    parameters = [blob for node in net.nodes for blob in node.layer.blobs]
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    if run == "module":
        given = torch.from_numpy(values).requires_grad_()
        total = net.loss(net(**{"in": given}))
        total.backward()
        loss, first = total.item(), given.grad
        found = [np.zeros_like(values) if first is None else first.numpy()]
    else:
        engine = BlobNet(net)
        for blob in engine.blobs if run == "seen" else ():
            assert blob.data.shape == blob.diff.shape
        engine.blob("in").data[...] = values
        loss = engine.forward()
        engine.backward()
        found = [engine.blob("in").diff.copy()]
    found += [np.zeros(tuple(p.shape), np.float32) if p.grad is None else p.grad.numpy().copy() for p in parameters]
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):  # BatchNorm's statistics move
            parameter.copy_(value)
    return loss, found


@pytest.mark.parametrize("block", range(10))
def test_module_and_engine_agree(block: int, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    compared = hard = 0
    for seed in range(20 * block, 20 * block + 20):
        path.write_text("\n".join(Writer(seed).lines))
        torch.manual_seed(seed)
        try:
            net = load_net(path)
        except ShapeError as error:
            if "Eltwise" in str(error):  # maps reshaped in two ways
                continue
            raise
        values = np.random.default_rng(seed).standard_normal((2, 3, 2, 2)).astype(np.float32)
        loss, expected = gradients(net, "module", values)
        if not np.isfinite(loss) or abs(loss) > 1e6:
            continue
        compared += 1
        hard += not net.plan.plain
        for run in ("engine", "seen"):
            again, found = gradients(net, run, values)
            assert again == pytest.approx(loss, rel=1e-4), f"seed {seed}"
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=1e-4, err_msg=f"seed {seed}, {run}")
    assert compared >= 15 and hard >= 8
