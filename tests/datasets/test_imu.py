"""Gravity from the files of accelerometers."""

import numpy as np
import pytest

from caffe_compat.datasets.imu import parse_axes, read_accelerometer
from caffe_compat.errors import DataError, MissingFileError, UsageError

START = 1305031102
DOWN = np.array([0.1, 0.9, 0.3]) / np.linalg.norm([0.1, 0.9, 0.3])


def lines(form: str, *, stamp=lambda t: f"{START + t:.4f}", factor=9.81) -> str:
    """What a sensor at rest measures: the opposite of gravity."""
    up = -DOWN * factor
    return "".join(form.format(stamp(t), *up) + "\n" for t in np.arange(0, 2, 0.01))


@pytest.mark.parametrize(
    ("head", "form"),
    [
        ("", "{},{},{},{}"),
        ("timestamp,x,y,z\n", "{},{},{},{}"),
        ("# timestamp ax ay az\n# more\n", "{} {} {} {}"),
        ("time;accel_x;accel_y;accel_z\n", "{};{};{};{}"),
        ("#timestamp [s],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],a_RS_S_x [m s^-2],"
         "a_RS_S_y [m s^-2],a_RS_S_z [m s^-2]\n", "{},1,2,3,{},{},{}"),
        ("time,gyro.x,gyro.y,gyro.z,linear_acceleration.x,linear_acceleration.y,linear_acceleration.z\n",
         "{},1,2,3,{},{},{}"),
        ("index,t,AccX,AccY,AccZ,temp\n", "7,{},{},{},{},30"),
    ],
)  # fmt: skip
def test_files_of_several_makers(tmp_path, head, form):
    path = tmp_path / "imu.csv"
    path.write_text(head + lines(form))
    found = read_accelerometer(path)
    assert found.gravity(START + 1.0) == pytest.approx(tuple(DOWN), abs=1e-5)
    assert found.times[0] == pytest.approx(START) and len(found.times) == 200


def test_units_of_time(tmp_path):
    path = tmp_path / "imu.csv"
    for stamp, head, unit in (
        (lambda t: f"{round((START + t) * 1e9)}", "", None),
        (lambda t: f"{round((START + t) * 1e6)}", "", None),
        (lambda t: f"{t * 1000:.3f}", "time_ms,x,y,z\n", None),
        (lambda t: f"{t * 1000:.3f}", "timestamp [ms],x,y,z\n", None),
        (lambda t: f"{t:.5f}", "", "s"),
    ):
        path.write_text(head + lines("{},{},{},{}", stamp=stamp))
        found = read_accelerometer(path, unit)
        assert found.times[-1] - found.times[0] == pytest.approx(1.99, abs=1e-5)
    path.write_text(lines("{},{},{},{}", stamp=lambda t: f"{t:.5f}"))
    with pytest.raises(DataError, match=r"imu\.csv: its time 0 does not count from 1970.*--imu-unit"):
        read_accelerometer(path)


def test_axes_and_columns(tmp_path):
    path = tmp_path / "imu.csv"
    path.write_text(lines("{0},{3},{1},{2},5"))  # forward, right, down
    with pytest.raises(DataError, match="5 columns without names"):
        read_accelerometer(path)
    found = read_accelerometer(path, columns=[0, 1, 2, 3], axes="y,z,x")
    assert found.gravity(START) == pytest.approx(tuple(DOWN), abs=1e-5)
    turned = read_accelerometer(path, columns=[0, 1, 2, 3], axes="-y,-z,-x")
    assert turned.gravity(START) == pytest.approx(tuple(-DOWN), abs=1e-5)
    assert parse_axes(" -Y, +z,x") == ((1, -1.0), (2, 1.0), (0, 1.0))
    with pytest.raises(DataError, match="column 9 of 5"):
        read_accelerometer(path, columns=[0, 1, 2, 9])
    for axes in ("x,y", "x,y,y", "x,y,zz", "a,b,c", ""):
        with pytest.raises(UsageError, match="expected the sensor's axis for right, down and forward"):
            read_accelerometer(path, axes=axes)
    with pytest.raises(UsageError, match="expected four numbers"):
        read_accelerometer(path, columns=[0, 1])


def test_a_frame_without_samples_or_while_the_camera_is_shaken_has_no_gravity(tmp_path):
    path = tmp_path / "imu.csv"
    rows = lines("{},{},{},{}").splitlines()
    for place in range(95, 106):
        rows[place] = f"{START + place / 100},5,-15,2"
    path.write_text("\n".join(reversed(rows)))  # order does not count
    found = read_accelerometer(path)
    assert found.usual == pytest.approx(9.81)
    assert found.gravity(START + 1.0, 0.05) == "the camera was shaken"
    assert found.gravity(START + 0.5, 0.05) == pytest.approx(tuple(DOWN), abs=1e-5)
    assert found.gravity(START + 7.0) == "no sample near it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of numbers"),
        ("a,b,c,d\n", "no line of numbers"),
        ("1305031102,1,2\n", "line 1 has 3 numbers, expected 4 or more"),
        ("1305031102,1,2,3\n1305031102,1,2\n", "line 2 has 3 numbers, expected 4"),
        ("1305031102,1,2,3\nx,1,2,4\n", "line 2 is not numbers"),
        ("1305031102,nan,2,3\n", "line 1 has 4 numbers, expected"),
        ("1305031102,0,0,0\n", "a sample is 0 in all directions"),
        ("t,u,v,w,q\n1305031102,1,2,3,4\n", "columns t, u, v, w, q: which are the time and the acceleration"),
    ],
)
def test_what_is_no_such_file(tmp_path, text, message):
    (tmp_path / "imu.csv").write_text(text)
    with pytest.raises(DataError, match=rf"imu\.csv: {message}"):
        read_accelerometer(tmp_path / "imu.csv")
    with pytest.raises(MissingFileError, match=r"none\.csv"):
        read_accelerometer(tmp_path / "none.csv")
