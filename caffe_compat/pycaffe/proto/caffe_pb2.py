"""``caffe.proto.caffe_pb2``: the messages of :mod:`caffe_compat.proto.caffe_pb2`."""

from caffe_compat.proto.caffe_pb2 import *  # noqa: F403 - the same names, whatever they are
