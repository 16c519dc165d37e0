"""What may be asked of a running solver."""

from __future__ import annotations

from enum import Enum

__all__ = ["Action"]


class Action(Enum):
    """What may be asked of a running solver (Caffe's signal actions)."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"
