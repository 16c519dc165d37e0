"""Which snapshot a run goes on from: the newest whose files are whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from caffe_compat import log
from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.net import weights as weight_io
from caffe_compat.solver import snapshots

__all__ = ["newest_state"]


def newest_state(prefix: str, check: Callable[[str], object] | None = None) -> str | None:
    """Path of the newest state of a prefix (``PREFIX_iter_N.solverstate`` or ``.solverstate.h5``) that can be used.

    A state that is damaged or cut off, or whose weights are, or are missing, is passed over with a line of the log.

    Args:
        check: reads what else belongs to a state, given its path; raises an error where that cannot be used.

    Returns:
        None if the prefix has no states at all.

    Raises:
        SolverError: it has some, and none can be used; names each and why.
    """
    found = sorted(_states(prefix), reverse=True)
    reasons = []
    for _, path in found:
        try:
            state = snapshots.read(path)
            if state.learned_net:
                weight_io.blobs_in([state.learned_net])
            if check is not None:
                check(path)
        except CaffeCompatError as error:
            reason = f"{error}" if path in f"{error}" else f"{path}: {error}"
            log.warning(f"Passing over a snapshot: {reason}", "caffe.cpp:242")
            reasons.append(reason)
        else:
            return path
    if reasons:
        raise SolverError(
            f"none of the {len(reasons)} states of snapshot_prefix '{prefix}' can be used: {'; '.join(reasons)}; "
            "remove them to start from the beginning"
        )
    return None


def _states(prefix: str) -> list[tuple[int, str]]:
    """Iteration and path of each, by their names."""
    name = re.compile(re.escape(Path(prefix).name) + r"_iter_(\d+)\.solverstate(\.h5)?")
    folder = Path(prefix).parent
    if not folder.is_dir():
        return []
    matches = [(name.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), str(path)) for match, path in matches if match]
