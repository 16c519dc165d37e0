"""Chromium as PyQt6-WebEngine brings it, called like the program itself: see browser.py, which needs no more of it.

    QT_BROWSER_PYTHON tests/qt_browser.py --window-size=1200,2400 (--screenshot=FILE | --dump-dom) URL

It runs in an environment of its own, where ``pip install PyQt6 PyQt6-WebEngine`` was done.
"""

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_DISABLE_SANDBOX", "1")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--disable-gpu --no-sandbox")

from PyQt6.QtCore import QTimer, QUrl  # noqa: E402
from PyQt6.QtWebEngineWidgets import QWebEngineView  # noqa: E402
from PyQt6.QtWidgets import QApplication  # noqa: E402


def main(words: list[str]) -> int:
    """Load the page, then write what was asked for."""
    options = dict(word.lstrip("-").partition("=")[::2] for word in words if word.startswith("-"))
    app = QApplication(["qt_browser"])
    view = QWebEngineView()
    width, height = map(int, options.get("window-size", "1200,900").split(","))
    view.resize(width, height)
    view.show()
    status = [1]

    def write() -> None:
        if "screenshot" in options:
            status[0] = 0 if view.grab().save(options["screenshot"]) else 1
            app.quit()
        else:
            view.page().toHtml(say)

    def say(text: str) -> None:
        print(text)
        status[0] = 0
        app.quit()

    def loaded(well: bool) -> None:
        QTimer.singleShot(1500, write) if well else app.quit()

    view.loadFinished.connect(loaded)
    view.load(QUrl(words[-1]))
    app.exec()
    return status[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
