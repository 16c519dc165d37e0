"""Which layer types there are, and what each means in which dialect of Caffe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, overload

from caffe_compat.errors import NetError, nearest
from caffe_compat.layers.base import Layer
from caffe_compat.layers.params import Params
from caffe_compat.proto.forks import owned_by

__all__ = ["Meaning", "layer_class", "register", "registered"]

_log = logging.getLogger(__name__)
_L = TypeVar("_L", bound=type[Layer])


@dataclass(frozen=True)
class Meaning:
    """What a layer type means in one dialect.

    Attributes:
        when: tells from the parameters whether a layer is meant so; ``None``: if no other meaning applies.
        dialect: which Caffe means it so; ``""`` for BVLC's or the only one.
    """

    layer: type[Layer]
    when: Callable[[Params], bool] | None = None
    dialect: str = ""


_registry: dict[str, list[Meaning]] = {}


@overload
def register(cls: _L, /) -> _L: ...
@overload
def register(*, when: Callable[[Params], bool] | None = None, dialect: str = "") -> Callable[[_L], _L]: ...
def register(
    cls: _L | None = None, /, *, when: Callable[[Params], bool] | None = None, dialect: str = ""
) -> _L | Callable[[_L], _L]:
    """Class decorator: make a layer known under its ``caffe_type``.

    Forks gave new meanings to old names.  ``@register(when=..., dialect="...")`` adds a meaning to a type that has one
    already (or has none without a condition): it applies to layers for which ``when(params)`` is true.  What ``when``
    reads does not count as read by the layer.

    Raises:
        NetError: the type has an unconditional meaning already.
    """

    def add(cls: _L) -> _L:
        known = _registry.setdefault(cls.caffe_type, [])
        if when is None and any(meaning.when is None for meaning in known):
            raise NetError(f"layer type '{cls.caffe_type}' is registered already")
        known.append(Meaning(cls, when, dialect))
        known.sort(key=lambda meaning: (meaning.when is not None, meaning.dialect))
        return cls

    return add if cls is None else add(cls)


def registered() -> dict[str, list[Meaning]]:
    """All layer types by name, sorted, with their meanings; the unconditional one, if any, first."""
    return {name: list(meanings) for name, meanings in sorted(_registry.items())}


def layer_class(params: Params) -> type[Layer]:
    """The class for a layer: that of the dialect that the caller named, else the one whose condition holds, else the
    one without a condition; where that does not decide, the dialect that the rest of the net speaks.

    Raises:
        LayerError: unknown type; names the forks that have it, or the nearest known one.  Or a type whose meanings all
            have conditions, of which none or several apply.
    """
    known = _registry.get(params.type)
    if known is None:
        hint = owned_by("type", params.type) or nearest(params.type, _registry)
        hint = hint or f"; known types: {', '.join(sorted(_registry))}"
        raise params.error(f"unknown layer type '{params.type}'{hint}")
    dialect = params.description.dialect
    named = [meaning for meaning in known if dialect.name and meaning.dialect == dialect.name]
    if named and dialect.given:
        return named[0].layer
    found = [meaning for meaning in known if meaning.when and meaning.when(Params(params.description))]
    found = found or [meaning for meaning in known if meaning.when is None]
    if len(found) != 1 and named and named[0] in (found or known):
        _log.warning("layer '%s' (%s): read as in %s, like the rest of the net", params.name, params.type, dialect.name)
        found = named
    if len(found) != 1:
        names = ", ".join(meaning.dialect for meaning in found or known)
        which = f"fit {len(found)} meanings of the type ({names})" if found else f"fit no meaning of the type ({names})"
        raise params.error(f"its parameters {which}, expected exactly one; name the dialect (load_net(dialect=...))")
    return found[0].layer
