"""The name ``caffe``: an import finder that gives modules written for Caffe's Python module this package's own.

Whoever runs such code calls :func:`install` before; nothing is imported until somebody says ``import caffe``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from caffe_compat.errors import UsageError

__all__ = ["install"]

NAME = "caffe"
HOME = "caffe_compat.pycaffe"


class _Alias(Loader):
    """Hands out a module that has another name."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself; it keeps its own spec."""
        module = importlib.import_module(self.target)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It ran already."""
        module.__spec__ = self.spec


class _Finder(MetaPathFinder):
    """Finds ``caffe`` and ``caffe.NAME`` in the package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a part of the package that there is."""
        first, _, rest = fullname.partition(".")
        if first != NAME:
            return None
        own = f"{HOME}.{rest}" if rest else HOME
        if importlib.util.find_spec(own) is None:
            return None
        return ModuleSpec(fullname, _Alias(own), is_package=False)


_finder = _Finder()


def install() -> None:
    """Let ``import caffe`` and its submodules mean this package, for the rest of the process.

    Raises:
        UsageError: another module called ``caffe`` was imported before.
    """
    present = sys.modules.get(NAME)
    if present is not None and present.__name__ != HOME:
        raise UsageError(f"another module called caffe is imported already: {getattr(present, '__file__', present)}")
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
