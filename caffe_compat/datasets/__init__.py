"""Data sets on disk: NYUD2 (labelled, published tree, raw video), SUN RGB-D, UCF101, JHMDB, JSON lists; image databases
by name."""

from caffe_compat.datasets import coco as coco  # these register databases
from caffe_compat.datasets import jhmdb as jhmdb
from caffe_compat.datasets import trees as trees
from caffe_compat.datasets import voc as voc
from caffe_compat.datasets.boxes import (
    GroundTruth,
    boxes_from_labels,
    boxes_from_segmentation,
    read_ground_truth,
    write_ground_truth,
)
from caffe_compat.datasets.imdb import ImageDatabase, find_imdb, imdb_names, register_imdb
from caffe_compat.datasets.index import index_records
from caffe_compat.datasets.labelled import LabelledSource, labelled_records
from caffe_compat.datasets.mat import read_mat
from caffe_compat.datasets.nyud2 import CLASSES, LabelledFrame, LabelledNYUD2
from caffe_compat.datasets.pairs import hold_out
from caffe_compat.datasets.proposals import read_any, read_proposals
from caffe_compat.datasets.record import FrameRecord, depth_frames
from caffe_compat.datasets.selection import read_selection, select, write_selection
from caffe_compat.datasets.sunrgbd import SunFrame, exclude_nyud2, find_frames, read_split
from caffe_compat.datasets.tree import NYUD2Tree, Segmentation
from caffe_compat.datasets.video import VideoPair, scene_folders, scenes_of_split, synchronise

__all__ = [
    "CLASSES",
    "FrameRecord",
    "GroundTruth",
    "ImageDatabase",
    "LabelledFrame",
    "LabelledNYUD2",
    "LabelledSource",
    "NYUD2Tree",
    "Segmentation",
    "SunFrame",
    "VideoPair",
    "boxes_from_labels",
    "boxes_from_segmentation",
    "depth_frames",
    "exclude_nyud2",
    "find_frames",
    "find_imdb",
    "hold_out",
    "imdb_names",
    "index_records",
    "labelled_records",
    "read_any",
    "read_ground_truth",
    "read_mat",
    "read_proposals",
    "read_selection",
    "read_split",
    "scene_folders",
    "scenes_of_split",
    "register_imdb",
    "select",
    "synchronise",
    "write_ground_truth",
    "write_selection",
]
