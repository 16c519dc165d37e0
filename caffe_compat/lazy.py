"""Names of a package that are loaded on first use, so that importing a part of it does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["first_use"]


def first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``.

    Args:
        homes: of every name the module below the package, and after a colon its name there where that is another:
            ``{"format_text": "text:format"}``.  No name may be that of a module of the package.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, other = homes[name].partition(":")
        return getattr(importlib.import_module(f"{package}.{module}"), other or name)

    return load
