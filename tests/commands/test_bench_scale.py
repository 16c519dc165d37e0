"""The curves are what they say, their exponents are those of their costs, and the table names the machine."""

from __future__ import annotations

import math

import pytest

from caffe_compat.commands import bench, measurements
from caffe_compat.commands.measurements import curve as module
from caffe_compat.commands.measurements import scale
from caffe_compat.commands.measurements.curve import Curve, Measured, exponent, measure, row
from caffe_compat.commands.measurements.machine import machine
from caffe_compat.errors import UsageError


def made(seconds, memory=None, sizes=(10, 100, 1000, 10000)) -> Measured:
    curve = Curve("layers", "thing", "layers", sizes, lambda size, folder: lambda: None)
    return Measured(curve, list(seconds), list(memory or [math.nan] * len(seconds)))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_exponent_of_powers(power):
    sizes = (10, 30, 100, 1000)
    assert exponent(sizes, [2e-3 * size**power for size in sizes], 1e-6) == pytest.approx(power)


def test_exponent_leaves_out_what_is_too_short_to_tell():
    assert exponent((10, 100, 1000), [1e-3, 1e-3, 1.0], 2e-3) != exponent((10, 100, 1000), [1e-3, 1e-3, 1.0], 0)
    assert math.isnan(exponent((10, 100, 1000), [1e-3, 1e-3, 1.0], 2e-3))
    assert math.isnan(exponent((10, 100), [1.0, 2.0], 0, few=3)) and math.isnan(exponent((), (), 0))


def test_a_row_tells_costs_exponents_and_what_is_steep():
    line = row(made([0.01, 0.1, 1.0, 10.0], [0, 1e7, 1e8, 1e9]))
    assert line.split() == [
        "thing,",
        "layers",
        "10",
        "10000",
        "10.0000",
        "1000.000",
        "1.00",
        "1000.0",
        "100000.0",
        "1.00",
    ]
    steep = made([0.01, 1.0, 100.0])
    steep.left_out = (10000,)
    assert row(steep).endswith("steeper than linear; left out: 10000") and " - " in row(steep)


def test_sizes_that_would_take_too_long_are_left_out(tmp_path, monkeypatch):
    """The processor's time is played: a hundredth of a second times the square of the size."""
    clock, ran = [0.0], []
    monkeypatch.setattr(module.time, "process_time", lambda: clock[0])

    def prepare(size, folder):
        (folder / "file").write_text("x")

        def run():
            ran.append(size)
            clock[0] += 0.01 * size**2

        return run

    found = measure(Curve("g", "squares", "things", (1, 10, 100, 1000), prepare), tmp_path, 200)
    assert found.seconds == pytest.approx([0.01, 1.0, 100.0]) and found.left_out == (1000,)
    assert found.growth == pytest.approx(2.0)
    assert ran.count(1) > 2 and ran.count(100) == 1
    assert not list(tmp_path.iterdir())


def test_memory_that_a_call_takes_is_seen(tmp_path):
    if not module._forget_peak():
        pytest.skip("this kernel does not forget how large a process was")
    found = measure(
        Curve("g", "bytes", "bytes", (1 << 25, 1 << 26, 1 << 27), lambda size, folder: lambda: b"x" * size), tmp_path, 9
    )
    assert found.memory == pytest.approx([1 << 25, 1 << 26, 1 << 27], rel=0.2)
    assert found.memory_growth == pytest.approx(1.0, abs=0.1)


def test_every_curve_runs_at_its_smallest_sizes(tmp_path):
    curves = scale.chosen_curves(())
    assert len({curve.label + curve.unit for curve in curves}) == len(curves)
    for number, curve in enumerate(curves):
        assert list(curve.sizes) == sorted(set(curve.sizes)) and len(curve.sizes) >= 3
        if curve.group != "file size":
            folder = tmp_path / str(number)
            folder.mkdir()
            curve.prepare(curve.sizes[0], folder)()


def test_groups_are_chosen_by_name():
    assert {curve.group for curve in scale.chosen_curves(["batch", "layers"])} == {"batch", "layers"}
    with pytest.raises(UsageError, match=r"no group of curves 'layer', expected RoIs, .*did you mean 'layers'"):
        scale.chosen_curves(["layer"])


def test_the_picture_has_a_column_for_each_group():
    drawn = scale.draw([made([0.01, 0.1, 1.0, 10.0]), made([0.01, 0.1, 1.0], [1e6, 1e7, 1e8])])
    top, bottom = drawn.axes
    assert top.get_xscale() == top.get_yscale() == bottom.get_yscale() == "log"
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["thing (1.00)", "thing (1.00)", "linear"]
    assert [line.get_label() for line in bottom.get_lines()] == ["thing", "linear"]


def test_the_command_prints_a_table_and_the_machine(tmp_path, monkeypatch, capsys):
    curve = Curve("batch", "nothing", "things", (1, 2, 3), lambda size, folder: lambda: None)
    monkeypatch.setattr(scale, "chosen_curves", lambda groups: [curve])
    assert bench.main(["scale", "--plot", str(tmp_path / "p.png"), "--curves", "batch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("what grows") and lines[3].startswith("nothing, things")
    assert lines[4] == f"wrote {tmp_path}/p.png" and (tmp_path / "p.png").read_bytes()[1:4] == b"PNG"
    assert lines[-1].startswith(f"measured on {machine()}")
    with pytest.raises(UsageError, match="--seconds"):
        bench.main(["scale", "--seconds", "0"])


def test_several_benchmarks_end_with_one_table_of_them_all(monkeypatch, capsys):
    rows = {name: (lambda rounds, name=name: [(name, 1.0, 2.0, 0.5, "<= 1")]) for name in measurements.BENCHMARKS}
    monkeypatch.setattr(measurements, "_functions", lambda *args, **options: rows)
    assert measurements.report([], 1) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("measured on"))
    assert lines[at + 1] == measurements.HEAD
    assert [line.split()[0] for line in lines[at + 2 :]] == list(measurements.BENCHMARKS)


def test_the_machine_is_named():
    import torch

    told = machine()
    assert f"torch {torch.__version__}" in told and "cores" in told and "of memory" in told and "\n" not in told
