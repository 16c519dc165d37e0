"""A browser of the Chromium family for tests of pages, where one is installed.

``CAFFE_COMPAT_BROWSER`` names the program, with arguments if need be; else one of the usual names is looked for.  A
venv with PyQt6-WebEngine does as well: ``CAFFE_COMPAT_BROWSER="VENV/bin/python tests/qt_browser.py"``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,2400")
SECONDS = 240


def browser() -> list[str]:
    """The words that start it; empty if none is installed."""
    if given := os.environ.get("CAFFE_COMPAT_BROWSER"):
        return [str(ROOT / word) if (ROOT / word).is_file() else word for word in shlex.split(given)]
    return next(([found] for name in NAMES if (found := shutil.which(name))), [])


def rendered(page: Path, screenshot: Path) -> str:
    """The page as the browser holds it once it is loaded; keeps a screenshot."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*browser(), *FLAGS, f"--user-data-dir={folder}"]
        for last in ([f"--screenshot={screenshot}"], ["--dump-dom"]):
            done = subprocess.run(
                [*words, *last, page.resolve().as_uri()], capture_output=True, text=True, timeout=SECONDS, check=False
            )
            assert done.returncode == 0, done.stderr
    return done.stdout
