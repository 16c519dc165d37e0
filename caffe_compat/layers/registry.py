"""Which layer types there are, and what each means in which dialect of Caffe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, overload

from caffe_compat.description import LayerDescription
from caffe_compat.errors import LayerError, NetError, nearest
from caffe_compat.layers.base import Layer
from caffe_compat.layers.params import Params
from caffe_compat.proto.forks import owned_by

__all__ = ["Meaning", "layer_class", "refuse_unknown", "register", "registered"]

_log = logging.getLogger(__name__)
_L = TypeVar("_L", bound=type[Layer])


@dataclass(frozen=True)
class Meaning:
    """What a layer type means in one dialect.

    Attributes:
        when: tells from the parameters whether a layer is meant so; ``None``: if no other meaning applies.
        dialect: which Caffe means it so; ``""`` for BVLC's or the only one.
        marked: whether ``when`` decides in every dialect: a field has that meaning, and without it the type has the
            other ones, in that Caffe too.
    """

    layer: type[Layer]
    when: Callable[[Params], bool] | None = None
    dialect: str = ""
    marked: bool = False

    def fits(self, params: Params) -> bool:
        """Whether the condition holds; False without one.  What it reads does not count as read by the layer."""
        return self.when is not None and self.when(Params(params.description))


_registry: dict[str, list[Meaning]] = {}
_MOST_LAYERS = 3  # of one unknown type, that a message names


@overload
def register(cls: _L, /) -> _L: ...
@overload
def register(
    *, when: Callable[[Params], bool] | None = None, dialect: str = "", marked: bool = False
) -> Callable[[_L], _L]: ...
def register(
    cls: _L | None = None, /, *, when: Callable[[Params], bool] | None = None, dialect: str = "", marked: bool = False
) -> _L | Callable[[_L], _L]:
    """Class decorator: make a layer known under its ``caffe_type``.

    Forks gave new meanings to old names.  ``@register(when=..., dialect="...")`` adds a meaning to a type that has one
    already (or has none without a condition): it applies to layers for which ``when(params)`` is true.  What ``when``
    reads does not count as read by the layer.  ``marked``: a caller who names the dialect does not change that.

    Raises:
        NetError: the type has an unconditional meaning already.
    """

    def add(cls: _L) -> _L:
        known = _registry.setdefault(cls.caffe_type, [])
        if when is None and any(meaning.when is None for meaning in known):
            raise NetError(f"layer type '{cls.caffe_type}' is registered already")
        known.append(Meaning(cls, when, dialect, marked))
        known.sort(key=lambda meaning: (meaning.when is not None, meaning.dialect))
        return cls

    return add if cls is None else add(cls)


def registered() -> dict[str, list[Meaning]]:
    """All layer types by name, sorted, with their meanings; the unconditional one, if any, first."""
    return {name: list(meanings) for name, meanings in sorted(_registry.items())}


def refuse_unknown(layers: Iterable[LayerDescription]) -> None:
    """Refuse the layers of a net whose types nobody knows: all in one message, each type with the forks that have it
    or the nearest known name, and with its layers.

    Raises:
        LayerError: of the first such layer.
    """
    found: dict[str, list[LayerDescription]] = {}
    for layer in layers:
        if layer.type not in _registry:
            found.setdefault(layer.type, []).append(layer)
    if not found:
        return
    first = next(iter(found.values()))[0]
    if len(found) == 1:
        hint = _hint(first.type) or f"; known types: {', '.join(sorted(_registry))}"
        raise first.error(f"unknown layer type '{first.type}'{hint}")
    parts = [f"'{name}'{_hint(name)}: {_listed(which)}" for name, which in found.items()]
    raise LayerError(first.name, first.type, f"{len(found)} unknown layer types: {'; '.join(parts)}")


def _hint(layer_type: str) -> str:
    return owned_by("type", layer_type) or nearest(layer_type, _registry)


def _listed(layers: list[LayerDescription]) -> str:
    shown = [f"'{one.name}'" + (f" (line {one.line})" if one.line else "") for one in layers[:_MOST_LAYERS]]
    more = len(layers) - _MOST_LAYERS
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")


def layer_class(params: Params) -> type[Layer]:
    """The class for a layer: that of the dialect that the caller named, else the one whose condition holds, else the
    one without a condition; where that does not decide, the dialect that the rest of the net speaks.

    Raises:
        LayerError: unknown type; names the forks that have it, or the nearest known one.  Or a type whose meanings all
            have conditions, of which none or several apply.
    """
    refuse_unknown([params.description])
    known = _registry[params.type]
    dialect = params.description.dialect
    found = [meaning for meaning in known if meaning.fits(params)]
    named = [meaning for meaning in known if dialect.name and meaning.dialect == dialect.name]
    named = [meaning for meaning in named if not meaning.marked or meaning in found]
    if named and dialect.given:
        return next((meaning for meaning in named if meaning in found), named[0]).layer
    found = found or [meaning for meaning in known if meaning.when is None]
    if len(found) != 1 and named and named[0] in (found or known):
        _log.warning("layer '%s' (%s): read as in %s, like the rest of the net", params.name, params.type, dialect.name)
        found = named
    if len(found) != 1:
        names = ", ".join(meaning.dialect for meaning in found or known)
        which = f"fit {len(found)} meanings of the type ({names})" if found else f"fit no meaning of the type ({names})"
        raise params.error(f"its parameters {which}, expected exactly one; name the dialect (load_net(dialect=...))")
    return found[0].layer
