"""Pictures, lists and records, each read and written here; what a net wants of a picture; the table of modalities.

Needs no torch.  Names are loaded on first use, so that the table is at hand without OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.media.blob import fill_blob, negate_planes
    from caffe_compat.media.datum import datum_channels, encoded_datum, picture_datum
    from caffe_compat.media.encoding import Encoding
    from caffe_compat.media.geometry import (
        centre_window,
        resize_caffe,
        resize_short_side,
        resize_skimage,
        short_side_factor,
    )
    from caffe_compat.media.heads import check_pairs, different_sizes, head_size
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
    from caffe_compat.media.modalities import FORK_MEAN, IMAGENET_MEAN, MODALITIES, Modality, find_modality
    from caffe_compat.media.pictures import Channels, can_encode, decode, encode, planes, read_picture
    from caffe_compat.media.preparation import (
        PREPROCESSING,
        Preparation,
        describe_weights,
        model_preparation,
        parse_preparation,
        preparation_path,
        read_preparation,
        read_preprocessing,
        stored_preparation,
        weights_digest,
        write_preparation,
        write_preprocessing,
    )
    from caffe_compat.media.preprocessing import MeanPicture, Preprocessing
    from caffe_compat.media.records import BACKENDS, Database, RecordWriter, create_database, open_database
    from caffe_compat.media.sizes import (
        PIXEL_LIMIT,
        UNREADABLE,
        check_size,
        open_pillow,
        pixel_limit,
        stated_size,
    )

__all__ = [
    "UNREADABLE",
    "check_pairs",
    "different_sizes",
    "head_size",
    "write_preprocessing",
    "read_preprocessing",
    "Encoding",
    "MeanPicture",
    "Preprocessing",
    "PREPROCESSING",
    "Preparation",
    "describe_weights",
    "model_preparation",
    "parse_preparation",
    "preparation_path",
    "read_preparation",
    "stored_preparation",
    "weights_digest",
    "write_preparation",
    "find_modality",
    "Modality",
    "MODALITIES",
    "IMAGENET_MEAN",
    "FORK_MEAN",
    "BACKENDS",
    "PIXEL_LIMIT",
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
    "negate_planes",
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
    "short_side_factor",
    "stated_size",
    "write_image_list",
    "write_mean",
    "write_pairs",
]

_HOMES = {
    "check_pairs": "heads",
    "different_sizes": "heads",
    "head_size": "heads",
    "BACKENDS": "records",
    "Channels": "pictures",
    "Database": "records",
    "FORK_MEAN": "modalities",
    "IMAGENET_MEAN": "modalities",
    "LabelledImage": "lists",
    "MODALITIES": "modalities",
    "Modality": "modalities",
    "PIXEL_LIMIT": "sizes",
    "Pair": "lists",
    "Encoding": "encoding",
    "MeanPicture": "preprocessing",
    "Preprocessing": "preprocessing",
    "PREPROCESSING": "preparation",
    "Preparation": "preparation",
    "describe_weights": "preparation",
    "model_preparation": "preparation",
    "parse_preparation": "preparation",
    "preparation_path": "preparation",
    "read_preparation": "preparation",
    "stored_preparation": "preparation",
    "weights_digest": "preparation",
    "write_preparation": "preparation",
    "RecordWriter": "records",
    "UNREADABLE": "sizes",
    "can_encode": "pictures",
    "centre_window": "geometry",
    "check_size": "sizes",
    "create_database": "records",
    "datum_channels": "datum",
    "decode": "pictures",
    "encode": "pictures",
    "encoded_datum": "datum",
    "fill_blob": "blob",
    "find_modality": "modalities",
    "negate_planes": "blob",
    "open_database": "records",
    "open_pillow": "sizes",
    "picture_datum": "datum",
    "pixel_limit": "sizes",
    "planes": "pictures",
    "read_first_paths": "lists",
    "read_image_list": "lists",
    "read_mean": "means",
    "read_name_list": "lists",
    "read_pair_list": "lists",
    "read_picture": "pictures",
    "read_preprocessing": "preparation",
    "resize_caffe": "geometry",
    "resize_short_side": "geometry",
    "resize_skimage": "geometry",
    "short_side_factor": "geometry",
    "stated_size": "sizes",
    "write_image_list": "lists",
    "write_mean": "means",
    "write_pairs": "lists",
    "write_preprocessing": "preparation",
}

__getattr__ = first_use(__name__, _HOMES)
