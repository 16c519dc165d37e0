"""Messages of happynear/caffe-windows, which NormFace is trained with; see ``schema_forks.py``."""

__all__ = ["NORMFACE"]

# Numbers of LayerParameter are the fork's 202 to 237, private here: others have theirs
NORMFACE = """
LayerParameter
  8005202 insanity_param InsanityParameter, 8005212 flip_param FlipParameter,
  8005213 inner_distance_param InnerDistanceParameter, 8005214 normalize_param UnitNormalizeParameter,
  8005215 general_contrastive_loss_param GeneralContrastiveParameter,
  8005217 general_triplet_loss_param GeneralTripletParameter, 8005237 channel_scale_param ChannelScaleParameter
InsanityParameter
  1 lb float=5.0, 2 ub float=10.0
FlipParameter
  1 flip_width bool=true, 2 flip_height bool=false
InnerDistanceParameter
  1 num_output uint32, 2 bias_term bool=true, 3 weight_filler FillerParameter, 4 bias_filler FillerParameter,
  5 axis int32=1, 6 transpose bool=false, 7 distance_type string="L2", 8 normalize bool=false,
  9 update_center_only bool=false
UnitNormalizeParameter
  1 normalize_type string="L2", 2 fix_gradient bool=false, 3 bp_norm bool=false
GeneralContrastiveParameter
  1 positive_margin float=0.0, 2 negative_margin float=1.0, 3 positive_weight float=1.0, 4 negative_weight float=1.0,
  5 normalize_negative float=0.0, 6 positive_outlier_thresh float=4.0, 7 square bool=false,
  8 max_negative_only bool=false, 9 max_positive_only bool=false, 10 positive_first bool=false,
  11 positive_upper_bound float=1.0, 12 exp_negative_weight bool=false, 13 add_intra_mae bool=false,
  14 max_negative_margin float=1.2
GeneralTripletParameter
  1 margin float=0.2, 2 add_center_loss bool=true, 3 hardest_only bool=false, 4 positive_first bool=false,
  5 positive_upper_bound float=1.0, 6 positive_weight float=1.0, 7 negative_weight float=1.0
ChannelScaleParameter
  1 do_forward bool=true, 2 do_backward_feature bool=true, 3 do_backward_scale bool=true, 4 global_scale bool=false,
  5 max_global_scale float=1000.0, 6 min_global_scale float=0.0, 7 init_global_scale float=1.0
AccuracyParameter
  8005004 min_is_better bool=false
FillerParameter
  8005009 alpha float=0.0
InnerProductParameter
  8005008 normalize bool=false
ParameterParameter
  8005002 blob_filler FillerParameter
ScaleParameter
  8005006 min_value float, 8005007 max_value float
SoftmaxParameter
  8005007 normalize_type string="Softmax"
"""
