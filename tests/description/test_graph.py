"""Which of some items are needed."""

from __future__ import annotations

from caffe_compat.description.graph import ancestors

Item = tuple[str, str]


def needed(items: list[Item], *wanted: str) -> tuple[str, set[str]]:
    """Items are "made read"; the names of those that are needed, and all keys."""
    found, keys = ancestors(items, wanted, lambda item: item[0], lambda item: item[1])
    return " ".join(f"{made}<{read}" for made, read in found), keys


ITEMS = [("a", ""), ("b", "a"), ("c", "a"), ("b", "b"), ("de", "bc"), ("f", "c")]


def test_ancestors() -> None:
    assert needed(ITEMS, "f") == ("a< c<a f<c", {"a", "c", "f"})
    assert needed(ITEMS, "e") == ("a< b<a c<a b<b de<bc", {"a", "b", "c", "e"})
    assert needed(ITEMS, "b") == ("a< b<a b<b", {"a", "b"})  # all that make it, in place too
    assert needed(ITEMS, "x") == ("", {"x"})
    assert needed(ITEMS) == ("", set())


def test_readers_before_the_maker_do_not_count() -> None:
    assert needed([("a", ""), ("b", "a"), ("a", "")], "b") == ("a< b<a", {"a", "b"})
