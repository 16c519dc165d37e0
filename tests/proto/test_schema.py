"""The schema: numbers, defaults, presence, and the names of Caffe's generated module."""

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from caffe_compat.proto import caffe_pb2

# message, field, number, default (None: no declared default), repeated
FIELDS = [
    ("BlobProto", "num", 1, 0, False),
    ("BlobProto", "data", 5, None, True),
    ("BlobProto", "diff", 6, None, True),
    ("BlobProto", "shape", 7, None, False),
    ("BlobProto", "double_data", 8, None, True),
    ("Datum", "encoded", 7, False, False),
    ("FillerParameter", "type", 1, "constant", False),
    ("FillerParameter", "max", 4, 1.0, False),
    ("FillerParameter", "sparse", 7, -1, False),
    ("FillerParameter", "variance_norm", 8, 0, False),
    ("NetParameter", "layers", 2, None, True),
    ("NetParameter", "layer", 100, None, True),
    ("NetState", "phase", 1, 1, False),
    ("ParamSpec", "lr_mult", 3, 1.0, False),
    ("SolverParameter", "solver_mode", 17, 1, False),
    ("SolverParameter", "random_seed", 20, -1, False),
    ("SolverParameter", "regularization_type", 29, "L2", False),
    ("SolverParameter", "delta", 31, pytest.approx(1e-8), False),
    ("SolverParameter", "clip_gradients", 35, -1.0, False),
    ("SolverParameter", "snapshot_format", 37, 1, False),
    ("SolverParameter", "rms_decay", 38, pytest.approx(0.99), False),
    ("SolverParameter", "type", 40, "SGD", False),
    ("LayerParameter", "blobs", 7, None, True),
    ("LayerParameter", "transform_param", 100, None, False),
    ("LayerParameter", "clip_param", 148, None, False),
    ("LayerParameter", "norm_param", 206, None, False),
    ("LayerParameter", "roi_pooling_param", 8266711, None, False),
    ("LayerParameter", "smooth_l1_loss_param", 8266712, None, False),
    ("LayerParameter", "paired_image_data_param", 8266801, None, False),
    ("LayerParameter", "foreign_net_param", 8266802, None, False),
    ("LossParameter", "normalize", 2, None, False),
    ("LossParameter", "normalization", 3, 1, False),
    ("BatchNormParameter", "moving_average_fraction", 2, pytest.approx(0.999), False),
    ("BatchNormParameter", "eps", 3, pytest.approx(1e-5), False),
    ("ConvolutionParameter", "kernel_size", 4, None, True),
    ("ConvolutionParameter", "group", 5, 1, False),
    ("ConvolutionParameter", "dilation", 18, None, True),
    ("CropParameter", "axis", 1, 2, False),
    ("DataParameter", "backend", 8, 0, False),
    ("DropoutParameter", "scale_train", 2, True, False),
    ("EltwiseParameter", "operation", 1, 1, False),
    ("ExpParameter", "base", 1, -1.0, False),
    ("HingeLossParameter", "norm", 1, 1, False),
    ("ImageDataParameter", "batch_size", 4, 1, False),
    ("ImageDataParameter", "root_folder", 12, "", False),
    ("LRNParameter", "local_size", 1, 5, False),
    ("LRNParameter", "k", 5, 1.0, False),
    ("MVNParameter", "eps", 3, pytest.approx(1e-9), False),
    ("NormalizeParameter", "across_spatial", 1, True, False),
    ("NormalizeParameter", "scale_filler", 2, None, False),
    ("NormalizeParameter", "channel_shared", 3, True, False),
    ("NormalizeParameter", "eps", 4, pytest.approx(1e-10), False),
    ("PoolingParameter", "stride", 3, 1, False),
    ("PoolingParameter", "round_mode", 13, 0, False),
    ("ROIPoolingParameter", "spatial_scale", 3, 1.0, False),
    ("ReductionParameter", "operation", 1, 1, False),
    ("ReshapeParameter", "num_axes", 3, -1, False),
    ("SPPParameter", "engine", 6, 0, False),
    ("ScaleParameter", "bias_term", 4, False, False),
    ("WindowDataParameter", "crop_mode", 11, "warp", False),
    ("V1LayerParameter", "name", 4, None, False),
    ("V1LayerParameter", "blobs", 6, None, True),
    ("V1LayerParameter", "param", 1001, None, True),
    ("V0LayerParameter", "blobs", 50, None, True),
    ("V0LayerParameter", "det_fg_fraction", 56, 0.25, False),
    ("RepMatParameter", "rep_c", 3, 1, False),
    ("PairedImageDataParameter", "batch_size", 3, 2, False),
    ("PairedImageDataParameter", "negate_x_channel", 14, -1, False),
    ("PairedImageDataParameter", "negate_about", 18, 128.0, False),
    ("PairedImageDataParameter", "multiple_of", 17, 1, False),
]


@pytest.mark.parametrize(("message", "name", "number", "default", "repeated"), FIELDS)
def test_field(message, name, number, default, repeated):
    field = getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name[name]
    assert field.number == number
    assert field.has_default_value == (default is not None)
    assert field.has_presence != repeated
    if default is not None:
        assert getattr(getattr(caffe_pb2, message)(), name) == default


def test_presence_survives_a_round_trip():
    pooling = caffe_pb2.PoolingParameter(stride=1)
    again = caffe_pb2.PoolingParameter.FromString(pooling.SerializeToString())
    assert again.HasField("stride")
    assert not again.HasField("pad")


def test_names_of_the_generated_module():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.PoolingParameter.AVE == caffe_pb2.PoolingParameter.PoolMethod.Value("AVE") == 1
    assert caffe_pb2.V1LayerParameter.LayerType.Name(21) == "SOFTMAX_LOSS"
    assert caffe_pb2.NetParameter(name="x").name == "x"


def test_packed_only_where_caffe_packs():
    assert caffe_pb2.BlobProto(data=[1.0, 2.0]).SerializeToString()[:2] == b"\x2a\x08"
    assert caffe_pb2.ConvolutionParameter(pad=[1, 2]).SerializeToString() == b"\x18\x01\x18\x02"


def test_no_clash_with_another_caffe_proto():
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    other.message_type.add(name="NetParameter")
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(other.SerializeToString())
    assert not pool.FindMessageTypeByName("caffe.NetParameter").fields
    assert "layer" in caffe_pb2.NetParameter.DESCRIPTOR.fields_by_name


def test_import_brings_no_torch():
    code = "import sys; from caffe_compat.proto import read, hdf5, weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
