"""Messages of synopsys-caffe for nets converted from TensorFlow, ONNX and Darknet; see ``schema_forks.py``."""

__all__ = ["CONVERTED"]

# foss-for-synopsys-dwc-arc-processors/synopsys-caffe: private numbers, since SSD's and others' messages have its own.
# The fields of integer arithmetic (output_scale, saturate, ...) are left out: they are refused.
CONVERTED = """
LayerParameter
  8002003 pad_param PadParameter, 8002004 depth_to_space_param DepthToSpaceParameter,
  8002005 space_to_batch_nd_param SpaceToBatchNDParameter, 8002006 batch_to_space_nd_param BatchToSpaceNDParameter,
  8002007 resize_bilinear_param ResizeBilinearParameter,
  8002008 resize_nearest_neighbor_param ResizeNearestNeighborParameter,
  8002009 upsample_darknet_param UpsampleDarknetParameter
PadParameter
  1 paddings uint32*, 2 constant_values float=0.0
DepthToSpaceParameter
  1 block_size int32!, 2 data_format string="NHWC"
SpaceToBatchNDParameter
  1 block_shape uint32*, 2 paddings uint32*
BatchToSpaceNDParameter
  1 block_shape uint32*, 2 crops uint32*
ResizeBilinearParameter
  1 align_corners bool=false, 2 output_height int32, 3 output_width int32, 4 data_format string="NHWC",
  5 scale_height float=1.0, 6 scale_width float=1.0, 7 half_pixel_centers bool=false,
  8 pytorch_half_pixel bool=false, 9 output_depth int32, 10 scale_depth float=1.0
ResizeNearestNeighborParameter
  1 align_corners bool=false, 2 output_height int32, 3 output_width int32, 4 data_format string="NHWC",
  5 scale_height float=1.0, 6 scale_width float=1.0, 7 half_pixel_centers bool=false, 8 half_pixel_onnx bool=false
UpsampleDarknetParameter
  1 stride int32=1
PoolingParameter
  enum PoolMethod: AVE_TF=1005
  8000020 pad_type uint32=0
BatchNormParameter
  8000004 add_eps_before_sqrt bool=true
PriorBoxParameter
  8000017 tf bool=false, 8000018 yx_order bool=false
DetectionOutputParameter
  8000032 no_permute bool=false, 8000033 nbottom int32=6
BNParameter
  8000010 icnet bool=false
ProposalParameter
  8000002 anchor_base_size int32=16, 8000003 anchor_scale int32=3, 8000004 anchor_ratio int32=3,
  8000005 max_rois int32=300, 8000007 rpn_min_size float=16.0, 8000008 rpn_nms_thresh float=0.7
"""
