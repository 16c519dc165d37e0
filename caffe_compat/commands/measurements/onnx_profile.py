"""What ONNX Runtime's profile tells of a graph as it runs: after its optimisations, node by node."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["nodes_by_provider", "operators", "profiled_run", "unlike"]

COPIES = ("MemcpyFromHost", "MemcpyToHost")
"""Nodes that ONNX Runtime inserts where a tensor changes sides."""
Events = Sequence[Mapping[str, Any]]


def profiled_run(session: Any, arrays: Mapping[str, np.ndarray]) -> Events:
    """Run once, a session that was made with a profile, and end the profile: it costs nothing from then on."""
    session.run(None, dict(arrays))
    path = Path(session.end_profiling())
    events: Events = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return events


def operators(events: Events) -> Counter[str]:
    """How many nodes of each operator ran."""
    return Counter(str(facts["op_name"]) for facts in _nodes(events))


def nodes_by_provider(events: Events) -> tuple[dict[str, int], int]:
    """Nodes of each provider, and how many nodes beside these only copy from one to another."""
    facts = list(_nodes(events))
    copies = sum(one["op_name"] in COPIES for one in facts)
    return dict(Counter(str(one["provider"]) for one in facts if one["op_name"] not in COPIES)), copies


def unlike(ours: Counter[str], theirs: Counter[str]) -> str:
    """Number of nodes in two graphs, and of what operators one has more than the other."""

    def more(these: Counter[str], those: Counter[str]) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted((these - those).items())) or "nothing"

    return f"{ours.total()} nodes and {theirs.total()}; ours alone {more(ours, theirs)}; theirs {more(theirs, ours)}"


def _nodes(events: Events) -> Iterator[Mapping[str, Any]]:
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            yield event["args"]
