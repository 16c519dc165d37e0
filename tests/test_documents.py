"""JSON and YAML from anywhere: a value or one clear error."""

import pytest
import yaml

from caffe_compat.documents import parse_json, parse_yaml, read_json
from caffe_compat.errors import DataError, MissingFileError, UsageError


def test_json(tmp_path):
    assert parse_json(b'{"a": [1, 2.5]}', "x") == {"a": [1, 2.5]}
    (tmp_path / "a.json").write_text("[1]", encoding="utf-16")
    assert read_json(tmp_path / "a.json") == [1]
    with pytest.raises(MissingFileError, match=r"b\.json"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{" + '"a":{' * 100_000, "nested too deeply"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ("[NaN]", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("{", "not JSON: Expecting"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_json_that_cannot_be_used(text, message):
    with pytest.raises(DataError, match=rf"^here: .*{message}") as caught:
        parse_json(text, "here")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_yaml():
    assert parse_yaml("a: &x [1, 2]\nb: *x\n", "here", yaml.SafeLoader) == {"a": [1, 2], "b": [1, 2]}
    deep = "[" * 50 + "]" * 50
    assert str(parse_yaml(deep, "here", yaml.SafeLoader)) == deep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 2020-99-99", "not valid YAML: month must be in 1..12"),
        ("a: &a [*a]", "inside its own anchor"),
        ("&a {b: *a}", "inside its own anchor"),
        ("[" * 10_000, "nested deeper than 50"),
        ("[" * 51 + "]" * 51, "nested deeper than 50"),
        ("9" * 5000, "not valid YAML: Exceeds the limit"),
        ("a: [", "not valid YAML: while parsing"),
        ("a: !!binary x", "not valid YAML"),
        ("? {}\n: 1", "not valid YAML"),
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 20)), "more than"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_used(text, message):
    with pytest.raises(UsageError, match=rf"^here: .*{message}") as caught:
        parse_yaml(text, "here", yaml.SafeLoader, UsageError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
