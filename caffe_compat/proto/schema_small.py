"""Messages and fields of smaller forks, and of jolibrain/caffe (beniz/deepdetect's); see ``schema_forks.py``."""

__all__ = ["DEEPDETECT"]

# jolibrain/caffe: LayerParameter 157 to 159, DistortionParameter 1, 2, 4, 6, 8, 10, 12, 13, whose others are SSD's
DEEPDETECT = """
LayerParameter
  8004157 ctc_loss_param CtcLossParameter, 8004158 continuation_indicator_param ContinuationIndicatorParameter,
  8004159 labelsequence_accuracy_param LabelsequenceAccuracyParameter
CtcLossParameter
  1 alphabet_size uint32=0, 3 time_step uint32=0, 4 blank_label int32=0
ContinuationIndicatorParameter
  1 time_step uint32=0, 2 axis int32=0
LabelsequenceAccuracyParameter
  1 blank_label int32=0
DistortionParameter
  8000001 prob float=0.0, 8000002 brightness bool=false, 8000004 contrast bool=false, 8000006 hue bool=false,
  8000008 saturation bool=false, 8000010 random_order bool=false, 8000013 all_effects bool=false
NoiseParameter
  14 all_effects bool=false
NonMaximumSuppressionParameter
  4 soft_nms bool=false, 5 theta float=0.5
DetectionOutputParameter
  13 objectness_score float=0.01
MultiBoxLossParameter
  24 objectness_score float=0.01
"""
