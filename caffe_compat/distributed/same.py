"""Whether all processes see the same files and run the same versions: else they would train different things."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from caffe_compat.distributed.group import Group
from caffe_compat.errors import SolverError
from caffe_compat.ranks import Ranks

__all__ = ["check_same", "digest"]

_PIECE = 1 << 22


def digest(path: str | os.PathLike[str]) -> str:
    """What tells the contents of a file apart; of a folder, the names and sizes of what is in it.

    Returns:
        The size and a hash; ``"missing"`` if there is nothing.
    """
    where = Path(path)
    try:
        if where.is_dir():
            found = sorted((one.name, one.stat().st_size) for one in where.iterdir() if "lock" not in one.name.lower())
            return f"{len(found)} files, {_short(json.dumps(found).encode())}"
        total, whole = 0, hashlib.sha256()
        with where.open("rb") as stream:
            while piece := stream.read(_PIECE):
                whole.update(piece)
                total += len(piece)
        return f"{total} bytes, {whole.hexdigest()[:12]}"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable: {error.strerror or error}"


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def check_same(group: Group, facts: Mapping[str, str]) -> None:
    """Refuse what is not the same in all processes of a group, who all call this.

    Args:
        facts: what was found, by the words that name it in the error, such as ``"file train.txt"``.

    Raises:
        SolverError: in rank 0; names the first difference and the ranks that see it.
    """
    if not group.ranks.several:
        return
    with group.together():
        told = [json.loads(text) for text in group.gather(json.dumps(dict(facts)).encode())]
        first = told[0]
        for rank, other in enumerate(told[1:], 1):
            for name in [*first, *(name for name in other if name not in first)]:
                ours, theirs = first.get(name, "none"), other.get(name, "none")
                if ours != theirs:
                    raise SolverError(
                        f"{Ranks(rank, len(told))} has another {name} than rank 0: {theirs} there, {ours} here; "
                        "all processes must see the same"
                    )
