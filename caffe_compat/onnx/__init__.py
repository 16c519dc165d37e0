"""Nets as ONNX models: exported layer by layer, checked, and compared with PyTorch."""

from caffe_compat.compare import Difference
from caffe_compat.deploy import Session
from caffe_compat.onnx.export import export_onnx
from caffe_compat.onnx.graph import GraphBuilder
from caffe_compat.onnx.half import to_half
from caffe_compat.onnx.int8 import to_int8
from caffe_compat.onnx.lower import Lower, Lowered
from caffe_compat.onnx.metadata import any_preparation, onnx_preparation, stated_preparation
from caffe_compat.onnx.placement import Placement, place
from caffe_compat.onnx.profiled import profile
from caffe_compat.onnx.reference import from_onnx
from caffe_compat.onnx.save import save_onnx
from caffe_compat.onnx.support import support_page, support_table
from caffe_compat.onnx.verified import ExportReport, export_verified
from caffe_compat.onnx.verify import verify_onnx

__all__ = [
    "Difference",
    "ExportReport",
    "GraphBuilder",
    "Placement",
    "Lower",
    "Lowered",
    "Session",
    "any_preparation",
    "export_onnx",
    "export_verified",
    "from_onnx",
    "place",
    "profile",
    "onnx_preparation",
    "save_onnx",
    "stated_preparation",
    "support_page",
    "support_table",
    "to_half",
    "to_int8",
    "verify_onnx",
]
