"""``compute_image_mean``: the mean image of a database.

Source: BVLC Caffe 1.0, ``tools/compute_image_mean.cpp`` (behaviour only).
"""

from __future__ import annotations

import numpy as np

from caffe_compat import log
from caffe_compat.errors import DataError
from caffe_compat.media import datum_channels, open_database, write_mean

__all__ = ["compute_image_mean"]

SOURCE = "compute_image_mean.cpp"


def compute_image_mean(database: str, output: str | None = None, backend: str = "lmdb") -> np.ndarray:
    """The mean over all records, float32 (channels, height, width), summed in float32 as in Caffe; also per channel in
    the log.

    Args:
        output: a mean file (``BlobProto`` with legacy dims) to write.

    Raises:
        DataError: records differ in size, or cannot be read.
    """
    records = open_database(database, backend)
    log.info("Starting iteration", f"{SOURCE}:78")
    total: np.ndarray | None = None
    for index in range(len(records)):
        name = records.name(index)
        image = np.stack([np.asarray(plane) for plane in datum_channels(records[index], name)[0]]).astype(np.float32)
        if total is None:
            total = np.zeros_like(image)
        if image.shape != total.shape:
            raise DataError(f"{name} has the shape {list(image.shape)}, those before have {list(total.shape)}")
        total += image
        if (index + 1) % 10000 == 0:
            log.info(f"Processed {index + 1} files.", f"{SOURCE}:94")
    assert total is not None  # an empty database is refused
    mean = (total / np.float32(len(records))).astype(np.float32)
    log.info(f"Processed {len(records)} files.", f"{SOURCE}:99")
    if output is not None:
        log.info(f"Write to {output}", f"{SOURCE}:106")
        write_mean(output, mean)
    log.info(f"Number of channels: {len(mean)}", f"{SOURCE}:111")
    for channel, plane in enumerate(mean):
        log.info(f"mean_value channel [{channel}]: {log.number(plane.mean(dtype=np.float64))}", f"{SOURCE}:116")
    return mean
