"""Pictures, lists and records, each read and written here; what a net wants of a picture; the table of modalities.

Needs no torch.
"""

from caffe_compat.media.blob import fill_blob, mirrored_planes
from caffe_compat.media.datum import datum_channels, encoded_datum, picture_datum
from caffe_compat.media.geometry import (
    centre_window,
    resize_caffe,
    resize_short_side,
    resize_skimage,
    short_side_factor,
)
from caffe_compat.media.lists import (
    LabelledImage,
    Pair,
    read_first_paths,
    read_image_list,
    read_name_list,
    read_pair_list,
    write_image_list,
    write_pairs,
)
from caffe_compat.media.means import read_mean, write_mean
from caffe_compat.media.pictures import Channels, can_encode, decode, encode, planes, read_picture
from caffe_compat.media.records import BACKENDS, Database, RecordWriter, create_database, open_database
from caffe_compat.media.sizes import (
    PIXEL_LIMIT,
    PIXEL_LIMIT_VARIABLE,
    check_size,
    open_pillow,
    pixel_limit,
    set_pixel_limit,
    stated_size,
)

__all__ = [
    "BACKENDS",
    "PIXEL_LIMIT",
    "PIXEL_LIMIT_VARIABLE",
    "Channels",
    "Database",
    "LabelledImage",
    "Pair",
    "RecordWriter",
    "can_encode",
    "centre_window",
    "check_size",
    "create_database",
    "datum_channels",
    "decode",
    "encode",
    "encoded_datum",
    "fill_blob",
    "mirrored_planes",
    "open_database",
    "open_pillow",
    "picture_datum",
    "pixel_limit",
    "planes",
    "read_first_paths",
    "read_image_list",
    "read_mean",
    "read_name_list",
    "read_pair_list",
    "read_picture",
    "resize_caffe",
    "resize_short_side",
    "resize_skimage",
    "set_pixel_limit",
    "short_side_factor",
    "stated_size",
    "write_image_list",
    "write_mean",
    "write_pairs",
]
