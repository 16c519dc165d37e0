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

# hszhao/PSPNet (143 there, 20001 in soeaver/py-RFCN-priv)
SEGMENTATION = """
LayerParameter
  20001 interp_param InterpParameter
InterpParameter
  1 height int32=0, 2 width int32=0, 3 zoom_factor int32=1, 4 shrink_factor int32=1, 5 pad_beg int32=0,
  6 pad_end int32=0
"""
