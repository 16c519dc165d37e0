"""WindowData: windows of images, warped to squares (R-CNN).

Source: BVLC Caffe 1.0, ``window_data_layer.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.windows import Placement, Window, WindowItem, WindowReader, place_window
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.data.transformer import Transformer, plain
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import MeanPicture, Preprocessing
from caffe_compat.media.box_lists import whole_number

__all__ = ["Placement", "Window", "WindowData", "place_window", "read_windows"]


def read_windows(path: str, root: str = "") -> tuple[list[str], list[int], list[Window]]:
    """Read a window file.

    Returns:
        Paths of the images (``root`` put before them without a separator), their channels, and all windows.

    Raises:
        MissingFileError: no such file.
        DataError: it is empty or malformed; names the image.
    """
    with open_existing(path) as stream:
        words = iter(stream.read().decode("utf-8", "surrogateescape").split())
    images: list[str] = []
    channels: list[int] = []
    windows: list[Window] = []
    mark = next(words, None)
    if mark is None:
        raise DataError(f"{path}: the window file is empty")
    while mark is not None:
        where = f"{path}, image {len(images)}"
        if mark != "#":
            raise DataError(f"{where}: begins with {mark!r}, expected '#'")
        try:
            number, name = whole_number(next(words)), next(words)
            images.append(root + name)
            channels.append(whole_number(next(words)))
            if channels[-1] < 1:
                raise ValueError(f"{channels[-1]} channels")
            next(words), next(words)  # height and width: nobody asks
            for _ in range(whole_number(next(words))):
                label, overlap = whole_number(next(words)), float(next(words))
                x1, y1, x2, y2 = (whole_number(next(words)) for _ in range(4))
                if not math.isfinite(overlap):
                    raise ValueError(f"an overlap of {overlap}")
                windows.append(Window(number, label, overlap, (x1, y1, x2, y2)))
        except (StopIteration, RuntimeError, ValueError) as error:
            raise DataError(
                f"{where}: expected '# number', path, channels, height, width, number of windows, and lines "
                f"'class overlap x1 y1 x2 y2' ({str(error) or 'the file ends too early'})"
            ) from error
        mark = next(words, None)
    wrong = next((window for window in windows if not 0 <= window.image < len(images)), None)
    if wrong:
        raise DataError(f"{path}: there is an image number {wrong.image}, expected 0 to {len(images) - 1} in order")
    return images, channels, windows


@register
class WindowData(DataLayer):
    """Batches of warped windows, background first, drawn with replacement.

    Tops: (batch, channels, crop_size, crop_size) in BGR, and the labels (batch).  A window is foreground from
    ``fg_threshold`` overlap on and background (label 0) below ``bg_threshold``; ``fg_fraction`` of a batch is
    foreground.  The scale is ``window_data_param.scale``; that of ``transform_param`` is ignored, as in Caffe.
    """

    caffe_type = "WindowData"
    labelled = True
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section("window_data_param")
        ignore_transform_fields(params, section, "mean_file", "crop_size", "mirror")
        self.transformer = Transformer(params)
        self.scale = np.float32(section.scale)
        self.source, self.size = str(section.source), self.batch_size(section)
        self.crop, self.pad = self.transformer.crop, int(section.context_pad)
        if self.crop < 1:
            raise self.error("transform_param.crop_size is not set, expected a positive number")
        if self.crop <= 2 * self.pad:
            raise self.error(f"crop_size is {self.crop}, expected more than twice context_pad ({self.pad})")
        if section.crop_mode not in ("warp", "square"):
            raise self.error(f"crop_mode is '{section.crop_mode}', expected 'warp' or 'square'")
        self.square = section.crop_mode == "square"
        self.foreground_count = int(np.float32(self.size) * np.float32(section.fg_fraction))
        self.images, channels, windows = read_windows(self.source, section.root_folder)
        if channels[-1] != 3:
            raise self.data_error(
                f"{self.source}: image {len(channels) - 1} ({self.images[-1]}) is said to have {channels[-1]} "
                "channels, expected 3: pictures are read in colour"
            )
        self._sort(windows, section.fg_threshold, section.bg_threshold)
        self.samples = len(self.foreground) + len(self.background)
        self.means = self._read_means(channels[-1])
        self._cache: dict[int, bytes] | None = self._read_files() if section.cache_images else None
        self.shapes = [(self.size, channels[-1], self.crop, self.crop), (self.size,)]
        self.reader = WindowReader(
            self.who,
            self.source,
            self.shapes[0],
            self.pad,
            self.square,
            np.ascontiguousarray(self.means),
            self.scale,
            self.transformer.plain(),
        )

    def _sort(self, windows: Sequence[Window], fg_threshold: float, bg_threshold: float) -> None:
        """Foreground and background lists."""
        self.foreground = [window for window in windows if np.float32(window.overlap) >= fg_threshold]
        self.background = [
            Window(window.image, 0, 0.0, window.box)
            for window in windows
            if np.float32(window.overlap) < min(fg_threshold, bg_threshold)
        ]
        for window in self.foreground:
            if window.label < 1:
                raise self.data_error(
                    f"{self.source}: a foreground window of {self.images[window.image]} has class {window.label}, "
                    "expected a positive number"
                )
        counts = (self.size - self.foreground_count, self.foreground_count)
        for what, found, wanted in zip(
            ("background", "foreground"), (self.background, self.foreground), counts, strict=True
        ):
            if wanted and not found:
                raise self.data_error(f"{self.source}: there is no {what} window, but a batch takes {wanted}")

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`, of the picture of a window."""
        mean = self.means if self.transformer.mean is not None else None
        found = Preprocessing(
            self.transformer.modality,
            mean=tuple(map(plain, self.transformer.mean_values)) if mean is None else (),
            mean_picture=None if mean is None else MeanPicture.of(mean),
            scale=plain(self.scale),
            resize=(self.crop, self.crop),
            flip=self.transformer.mirror,
        )
        return {self.params.tops[0]: found}

    def _read_means(self, channels: int) -> np.ndarray:
        """The mean of every place of the square, (channels, crop, crop), or (channels, 1, 1)."""
        values, mean = self.transformer.mean_values, self.transformer.mean
        if mean is not None:
            start = (mean.shape[2] - self.crop) // 2  # Caffe takes the offset of the width for both axes
            cut = mean[:, start : start + self.crop, start : start + self.crop]
            if start < 0 or cut.shape != (channels, self.crop, self.crop):
                raise self.error(
                    f"mean file {self.transformer.mean_file} has the shape {list(mean.shape)}, expected "
                    f"{channels} channels and at least {self.crop}x{self.crop}"
                )
            return cut
        if values.size not in (0, 1, channels):
            raise self.error(f"has {values.size} mean_value entries, expected 1 or one per channel ({channels})")
        return np.broadcast_to(values if values.size else np.zeros(1, np.float32), channels)[:, None, None]

    def _read_files(self) -> dict[int, bytes]:
        """All image files as they are."""
        result = {}
        for index, path in enumerate(self.images):
            with open_existing(path, f"image named in {self.source}") as stream:
                result[index] = stream.read()
        return result

    def job(self, number: int) -> list[WindowItem]:
        """As :meth:`DataLayer.job`: background first."""
        random = self.random(number)
        items = []
        for item in range(self.size):
            windows = self.background if item < self.size - self.foreground_count else self.foreground
            window = windows[int(random.integers(len(windows)))]
            mirrored = self.transformer.mirror and bool(random.integers(2))
            content = None if self._cache is None else self._cache[window.image]
            items.append(WindowItem(window, mirrored, self.images[window.image], content))
        return items
