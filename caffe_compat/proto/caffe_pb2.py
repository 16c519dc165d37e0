"""Caffe's messages under the names of Caffe's own generated module.

``from caffe_compat.proto import caffe_pb2``, then ``caffe_pb2.NetParameter()``, ``caffe_pb2.TRAIN``,
``caffe_pb2.PoolingParameter.MAX`` and so on.  There is no generated code: see :mod:`caffe_compat.proto.schema`.
"""

from google.protobuf.internal import enum_type_wrapper

from caffe_compat.proto.schema import CLASSES, PHASES, POOL

__all__ = ["DESCRIPTOR", "Phase", *sorted(CLASSES), *PHASES]

DESCRIPTOR = POOL.FindFileByName("caffe_compat/caffe.proto")
Phase = enum_type_wrapper.EnumTypeWrapper(DESCRIPTOR.enum_types_by_name["Phase"])

globals().update(CLASSES)
globals().update({name: number for number, name in enumerate(PHASES)})
