"""Layers that bring data into a net, or write it: images, databases, HDF5 files, windows, memory."""

from caffe_compat.layers.data.affine import ImageDataAffine, ImageDataMultipleInference
from caffe_compat.layers.data.annotated import AnnotatedData
from caffe_compat.layers.data.box_pictures import DetectionData, EvalData, ImageGtData
from caffe_compat.layers.data.boxed import BoxData
from caffe_compat.layers.data.clips import VideoClips, VideoFrames
from caffe_compat.layers.data.database import Data
from caffe_compat.layers.data.fcn import ContextSegData, NYUDSegData, SBDDSegData, SIFTFlowSegData, VOCSegData
from caffe_compat.layers.data.hdf5 import HDF5Data, HDF5Output
from caffe_compat.layers.data.hypercolumns import HypercolumnData, HypercolumnSettings
from caffe_compat.layers.data.image import ImageData
from caffe_compat.layers.data.labelled_maps import DenseImageData, ImageLabelmapData
from caffe_compat.layers.data.many_labels import MultiLabelImageData
from caffe_compat.layers.data.memory import MemoryData
from caffe_compat.layers.data.paired import PairedImageData
from caffe_compat.layers.data.regions import ObjectData, RegionData, RoIDataLayer, RoIDataLayerPi
from caffe_compat.layers.data.segmented import ImageSegData
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.data.sparse import SparseData
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.data.volumes import VideoSegmentationData, VideoVolumes, VideoWithVoxelTruthData
from caffe_compat.layers.data.window import WindowData

__all__ = [
    "AnnotatedData",
    "BoxData",
    "ContextSegData",
    "Data",
    "DataLayer",
    "DenseImageData",
    "DetectionData",
    "EvalData",
    "HDF5Data",
    "HDF5Output",
    "HypercolumnData",
    "HypercolumnSettings",
    "ImageData",
    "ImageDataAffine",
    "ImageDataMultipleInference",
    "ImageGtData",
    "ImageLabelmapData",
    "ImageSegData",
    "MemoryData",
    "MultiLabelImageData",
    "NYUDSegData",
    "ObjectData",
    "PairedImageData",
    "RegionData",
    "RoIDataLayer",
    "RoIDataLayerPi",
    "SBDDSegData",
    "SIFTFlowSegData",
    "SparseData",
    "Transformer",
    "VOCSegData",
    "VideoClips",
    "VideoFrames",
    "VideoSegmentationData",
    "VideoVolumes",
    "VideoWithVoxelTruthData",
    "WindowData",
]
