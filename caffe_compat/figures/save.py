"""Figures as files."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from caffe_compat.errors import UsageError
from caffe_compat.files import atomic_write

__all__ = ["check_name", "write_figure"]

KINDS = (".png", ".pdf")


def check_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name whose ending is no kind of picture, before anything is computed.

    Raises:
        UsageError: it ends neither in .png nor in .pdf.
    """
    if Path(path).suffix.lower() not in KINDS:
        raise UsageError(f"{os.fspath(path)}: expected a name that ends in {' or '.join(KINDS)}")


def write_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    Args:
        path: ``.png`` with the figure's own dots per inch, or ``.pdf``.

    Raises:
        UsageError: another ending.
        WriteError: it cannot be written.
    """
    check_name(path)
    with atomic_write(path) as stream:
        if Path(path).suffix.lower() == ".png":
            FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
        else:
            FigureCanvasPdf(figure).print_pdf(stream, metadata={"CreationDate": None, "Producer": None})
