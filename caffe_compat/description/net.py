"""A net as plain frozen data: which layers it has in a given state, with the Split layers that Caffe inserts.

Source of the rules: BVLC Caffe 1.0, ``Net::FilterNet`` and ``InsertSplits``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caffe_compat import log
from caffe_compat.errors import LayerError, NetError, in_file, nearest
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.forks import check_dialect, guess_dialect
from caffe_compat.proto.schema import PHASES

__all__ = [
    "INPUT",
    "SPLIT",
    "Dialect",
    "LayerDescription",
    "NetDescription",
    "ParamSpec",
    "State",
    "describe_layer",
    "describe_net",
]

INPUT, SPLIT = "Input", "Split"  #: the two layer types that Caffe's net itself knows


@dataclass(frozen=True)
class State:
    """What the include and exclude rules of layers are checked against.

    Args:
        phase: ``"TRAIN"`` or ``"TEST"``.
        level: compared with ``min_level`` and ``max_level``.
        stages: compared with ``stage`` and ``not_stage``.
    """

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise NetError(f"phase is {self.phase!r}, expected {' or '.join(map(repr, PHASES))}")

    def differs(self, rule: Any) -> tuple[str, str] | None:
        """How the state breaks a ``NetStateRule``: Caffe's words and their source line; None if it meets the rule.

        An empty rule is always met.  (Caffe calls a level that is too low "above", too.)
        """
        phase, level = PHASES.index(self.phase), self.level
        if rule.HasField("phase") and rule.phase != phase:
            return f"phase ({phase}) differed from the phase ({rule.phase})", "net.cpp:294"
        if rule.HasField("min_level") and level < rule.min_level:
            return f"level ({level}) is above the min_level ({rule.min_level})", "net.cpp:304"
        if rule.HasField("max_level") and level > rule.max_level:
            return f"level ({level}) is above the max_level ({rule.max_level})", "net.cpp:314"
        for stage in rule.stage:
            if stage not in self.stages:
                return f"did not contain stage '{stage}'", "net.cpp:330"
        for stage in rule.not_stage:
            if stage in self.stages:
                return f"contained a not_stage '{stage}'", "net.cpp:345"
        return None


@dataclass(frozen=True)
class Dialect:
    """Which family of forks a net speaks: ``"ssd"``, ``"segnet"``, ... or ``""``, for names with several meanings.

    Attributes:
        given: whether the caller says so, so that it decides before a layer's own fields do; else it is a guess.
    """

    name: str = ""
    given: bool = False


@dataclass(frozen=True)
class ParamSpec:
    """One ``param { ... }`` of a layer; ``None`` where the prototxt says nothing."""

    name: str = ""
    lr_mult: float | None = None
    decay_mult: float | None = None
    permissive: bool = False


@dataclass(frozen=True)
class LayerDescription:
    """One layer: what the net needs to know of it, and the message that holds its own parameters.

    Attributes:
        message: the ``LayerParameter``; read, never changed.
        line: line of the prototxt, if known.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    phase: str
    message: Any
    loss_weights: tuple[float, ...] = ()
    params: tuple[ParamSpec, ...] = ()
    propagate_down: tuple[bool, ...] = ()
    line: int | None = None
    dialect: Dialect = Dialect()

    @property
    def is_input(self) -> bool:
        """Whether the caller fills the tops."""
        return self.type == INPUT

    @property
    def is_split(self) -> bool:
        """Whether the tops are copies of the bottom, as of the layers that Caffe inserts where blobs are read twice."""
        return self.type == SPLIT

    @property
    def in_place(self) -> bool:
        """Whether some top is the bottom of the same index."""
        return any(top == bottom for top, bottom in zip(self.tops, self.bottoms, strict=False))

    def error(self, reason: str) -> LayerError:
        """An error that names this layer and, if known, its line."""
        return LayerError(self.name, self.type, reason + (f" (line {self.line})" if self.line else ""))


@dataclass(frozen=True)
class NetDescription:
    """A net in one state, layers in file order, Split layers inserted.

    Attributes:
        source: the file it came from, or ``""``.
    """

    name: str
    layers: tuple[LayerDescription, ...]
    state: State
    force_backward: bool = False
    debug_info: bool = False
    source: str = ""


def describe_net(
    message: Any,
    state: State | None = None,
    *,
    source: str = "",
    lines: Sequence[int | None] = (),
    dialect: str = "",
) -> NetDescription:
    """Filter the layers of a ``NetParameter`` by state and insert the Split layers.

    Args:
        message: an upgraded (V2) ``NetParameter``.
        state: the state to build for; by default the one that the message holds.  As in Caffe a given phase and
            level replace those of the message, and stages are added to them.
        source: file name for errors.
        lines: line of every layer of the message.
        dialect: of which forks names with several meanings are; ``""``: a layer's fields decide, then the net's.

    Raises:
        NetError: a layer has both include and exclude rules, or a bottom that nothing produces.
    """
    state = _merge_state(message.state, state)
    layers = []
    spoken = Dialect(check_dialect(dialect) or guess_dialect(message), bool(dialect))
    with in_file(source):
        for index, layer in enumerate(message.layer):
            described = describe_layer(layer, state.phase, lines[index] if index < len(lines) else None)
            if _kept(described, layer, state):
                layers.append(replace(described, dialect=spoken) if spoken.name else described)
        layers = _insert_splits(layers)
    return NetDescription(
        name=message.name,
        layers=tuple(layers),
        state=state,
        force_backward=message.force_backward,
        debug_info=message.debug_info,
        source=source,
    )


def _merge_state(own: Any, given: State | None) -> State:
    if given is None:
        return State(PHASES[own.phase], own.level, tuple(own.stage))
    return replace(given, stages=tuple(own.stage) + given.stages)


def describe_layer(layer: Any, phase: str = "TEST", line: int | None = None) -> LayerDescription:
    """One layer as it is, with the blob names of its message.

    Args:
        layer: a ``LayerParameter``.
        phase: of the net; the layer's own, if it has one, is preferred.
        line: line of the prototxt.
    """

    def optional(spec: Any, field: str) -> float | None:
        return getattr(spec, field) if spec.HasField(field) else None

    params = tuple(
        ParamSpec(
            spec.name,
            optional(spec, "lr_mult"),
            optional(spec, "decay_mult"),
            spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE,
        )
        for spec in layer.param
    )
    return LayerDescription(
        name=layer.name,
        type=layer.type,
        bottoms=tuple(layer.bottom),
        tops=tuple(layer.top),
        phase=PHASES[layer.phase] if layer.HasField("phase") else phase,
        message=layer,
        loss_weights=tuple(layer.loss_weight),
        params=params,
        propagate_down=tuple(layer.propagate_down),
        line=line,
    )


def _kept(described: LayerDescription, layer: Any, state: State) -> bool:
    if layer.include and layer.exclude:
        raise described.error("has both include and exclude rules, expected one kind at most")
    if layer.include:
        return any(_meets(state, rule, layer.name) for rule in layer.include)
    return not any(_meets(state, rule, layer.name) for rule in layer.exclude)


def _meets(state: State, rule: Any, layer: str) -> bool:
    broken = state.differs(rule)
    if broken is not None:
        log.info(f"The NetState {broken[0]} specified by a rule in layer {layer}", broken[1])
    return broken is None


def _insert_splits(layers: Sequence[LayerDescription]) -> list[LayerDescription]:
    """Give every consumer of a blob a blob of its own, as Caffe does."""
    sources = _find_sources(layers)
    counts: dict[tuple[int, int], int] = {}
    for source in sources.values():
        counts[source] = counts.get(source, 0) + 1
    weighted = {
        (i, t): weight
        for i, layer in enumerate(layers)
        for t, weight in enumerate(layer.loss_weights[: len(layer.tops)])
        if weight
    }
    for source in weighted:
        if source in counts:
            counts[source] += 1
    following: dict[tuple[int, int], int] = dict.fromkeys(weighted, 1)
    result = []
    for i, layer in enumerate(layers):
        bottoms = list(layer.bottoms)
        for b, bottom in enumerate(bottoms):
            source = sources[i, b]
            if counts[source] > 1:
                k = following.get(source, 0)
                following[source] = k + 1
                bottoms[b] = f"{_split_name(bottom, layers[source[0]].name, source[1])}_{k}"
        splits = []
        weights = layer.loss_weights
        for t, top in enumerate(layer.tops):
            if counts.get((i, t), 0) > 1:
                weight = weighted.get((i, t), 0.0)
                splits.append(_split(layer, top, t, counts[i, t], weight))
                if weight:
                    weights = ()
        result.append(replace(layer, bottoms=tuple(bottoms), loss_weights=weights))
        result.extend(splits)
    return result


def _find_sources(layers: Iterable[LayerDescription]) -> dict[tuple[int, int], tuple[int, int]]:
    """(layer, bottom) -> (layer, top) that produced it last."""
    produced: dict[str, tuple[int, int]] = {}
    sources = {}
    for i, layer in enumerate(layers):
        for b, bottom in enumerate(layer.bottoms):
            if bottom not in produced:
                raise layer.error(
                    f"unknown bottom blob '{bottom}' (bottom index {b}): no earlier layer has it as top"
                    + nearest(bottom, produced)
                )
            sources[i, b] = produced[bottom]
        for t, top in enumerate(layer.tops):
            produced[top] = (i, t)
    return sources


def _split_name(blob: str, layer: str, top: int) -> str:
    return f"{blob}_{layer}_{top}_split"


def _split(layer: LayerDescription, blob: str, top: int, count: int, weight: float) -> LayerDescription:
    name = _split_name(blob, layer.name, top)
    tops = tuple(f"{name}_{k}" for k in range(count))
    weights = (weight,) + (0.0,) * (count - 1) if weight else ()
    message = caffe_pb2.LayerParameter(name=name, type=SPLIT, bottom=[blob], top=tops, loss_weight=weights)
    return LayerDescription(name, SPLIT, (blob,), tops, layer.phase, message, weights, line=layer.line)
