"""Messages of the forks that compact nets, R-FCN, SegNet, PSPNet and YOLO are trained with; see ``schema_forks.py``."""

__all__ = ["COMPACT", "RFCN", "SEGMENTATION"]

# eric612/MobileNet-YOLO, farmingyard/ShuffleNet: src/caffe/proto/caffe.proto
COMPACT = """
LayerParameter
  164 shuffle_channel_param ShuffleChannelParameter, 211 relu6_param ReLUParameter
ShuffleChannelParameter
  1 group uint32=1
"""

# daijifeng001/caffe-rfcn, branch r-fcn; its PRE_FIXED is 3 and moves NONE to 4
RFCN = """
LayerParameter
  10000 box_annotator_ohem_param BoxAnnotatorOHEMParameter, 10001 psroi_pooling_param PSROIPoolingParameter
LossParameter
  enum NormalizationMode: PRE_FIXED=1003
  4 pre_fixed_normalizer float=1.0
BoxAnnotatorOHEMParameter
  1 roi_per_img uint32!, 2 ignore_label int32=-1
PSROIPoolingParameter
  1 spatial_scale float!, 2 output_dim int32!, 3 group_size int32!
"""

# hszhao/PSPNet (interp_param 143 there, 20001 in soeaver/py-RFCN-priv); private numbers: alexgkendall/caffe-segnet,
# whose scale_filler is 1, shift_filler 2 and bn_mode 3, and eric612/MobileNet-YOLO's UpsampleParameter, scale 1
SEGMENTATION = """
LayerParameter
  152 bn_param BNParameter, 20001 interp_param InterpParameter
BNParameter
  enum BNMode: LEARN=0 INFERENCE=1
  enum Engine: DEFAULT=0 CAFFE=1 CUDNN=2
  1 slope_filler FillerParameter, 2 bias_filler FillerParameter, 3 momentum float=0.9, 4 eps float=1e-05,
  5 frozen bool=false, 6 engine Engine=DEFAULT, 8000001 scale_filler FillerParameter,
  8000002 shift_filler FillerParameter, 8000003 bn_mode BNMode=LEARN
UpsampleParameter
  8000001 scale uint32, 8000002 scale_h uint32, 8000003 scale_w uint32, 8000004 pad_out_h bool=false,
  8000005 pad_out_w bool=false, 8000006 upsample_h uint32, 8000007 upsample_w uint32
InterpParameter
  1 height int32=0, 2 width int32=0, 3 zoom_factor int32=1, 4 shrink_factor int32=1, 5 pad_beg int32=0,
  6 pad_end int32=0
"""
