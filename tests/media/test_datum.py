"""``Datum`` messages are taken apart as protobuf does it, in whatever form they are."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.errors import DataError
from caffe_compat.media import datum_channels
from caffe_compat.media.datum import _apart
from caffe_compat.proto import caffe_pb2

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8)
HEAD = caffe_pb2.Datum(channels=2, height=3, width=4).SerializeToString()
BODY = caffe_pb2.Datum(data=PIXELS.tobytes()).SerializeToString()
TAIL = caffe_pb2.Datum(label=-5).SerializeToString()
UNKNOWN = b"\x78\x05" + b"\x9a\x06\x02hi"  # fields 15 and 99


@pytest.mark.parametrize(
    ("raw", "quick"),
    [
        (HEAD + BODY + TAIL, True),
        (BODY + TAIL + HEAD, True),
        (TAIL + HEAD + BODY, True),
        (HEAD + b"\x78\x05" + BODY + TAIL, True),
        (HEAD + UNKNOWN + BODY + TAIL, False),
        (HEAD + b"\x22\x01x" + BODY + TAIL, False),  # the last of two counts
        (HEAD + b"\x22\x98\x80\x00" + PIXELS.tobytes() + TAIL, True),  # a length with more bytes than it needs
    ],
)
def test_every_form_is_read_as_protobuf_does(raw: bytes, quick: bool) -> None:
    expected = caffe_pb2.Datum.FromString(raw)
    channels, label = datum_channels(raw, "x")
    assert np.array_equal(channels, PIXELS.reshape(2, 3, 4)) and expected.data == PIXELS.tobytes()
    assert label == expected.label == -5
    assert (_apart(raw)[1] is not None) == quick


def test_floats_and_nothing() -> None:
    message = caffe_pb2.Datum(channels=1, height=1, width=3, float_data=[1, 2, 3.5], label=2)
    channels, label = datum_channels(message.SerializeToString(), "x")
    assert np.array_equal(channels, [[[1, 2, 3.5]]]) and channels[0].dtype == np.float32 and label == 2
    channels, _ = datum_channels(message.SerializeToString() + b"\x22\x00", "x")
    assert np.array_equal(channels, [[[1, 2, 3.5]]])


@pytest.mark.parametrize("count", range(1, len(HEAD + BODY)))
def test_truncated_ones_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=r"x: (is no Datum|a Datum of \d+ values cannot have the shape)"):
        datum_channels((HEAD + BODY)[:count], "x")


@pytest.mark.parametrize(
    "raw", [b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x22", b"\x22\x80", b"\x00\x00", b"\x0b\x0c"]
)
def test_malformed_ones_are_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="x: "):
        datum_channels(raw, "x")
