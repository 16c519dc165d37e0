"""Messages of lmb-freiburg/flownet2, in the language of ``schema_data.py``; see ``schema_forks.py``.

``LayerParameter``'s are private numbers: the fork's (148 to 161) are those of other forks too.
"""

__all__ = ["FLOWNET"]

FLOWNET = """
LayerParameter
  8150149 augmentation_param AugmentationParameter, 8150150 correlation_param CorrelationParameter,
  8150151 l1_loss_param L1LossParameter, 8150154 mean_param MeanParameter, 8150155 resample_param ResampleParameter,
  8150156 downsample_param DownsampleParameter, 8150157 reshape_every_iter bool=true,
  8150158 lpq_loss_param LpqLossParameter, 8150159 flow_warp_param FlowWarpParameter,
  8150160 accum_param AccumParameter
FillerParameter
  8150009 diag_val float*
AugmentationParameter
  2 write_augmented string="", 3 max_multiplier float=255.0, 4 augment_during_test bool=false,
  5 recompute_mean uint32=0, 6 write_mean string="", 7 mean_per_pixel bool=true, 8 mode string="add", 18 mean float*,
  33 crop_width uint32=0, 34 crop_height uint32=0, 80 bottomwidth uint32=0, 81 bottomheight uint32=0,
  82 num uint32=0, 83 chromatic_eigvec float*
CorrelationParameter
  enum CorrelationType: MULTIPLY=0 SUBTRACT=1
  2 pad uint32=0, 3 kernel_size uint32, 4 max_displacement uint32, 5 stride_1 uint32=1, 6 stride_2 uint32=1,
  7 do_abs bool=false, 8 single_direction int32=0, 15 correlation_type CorrelationType=MULTIPLY
L1LossParameter
  1 l2_per_location bool=false, 2 l2_prescale_by_channels bool=false, 3 normalize_by_num_entries bool=false,
  4 epsilon float=0.01, 3001 plateau float=0.0
MeanParameter
  enum MeanOperation: ADD=1 SUBTRACT=4
  1 operation MeanOperation!, 2 file string, 3 value float*, 4 mean_scale float=1.0, 5 input_scale float=1.0,
  6 output_scale float=1.0
ResampleParameter
  enum ResampleType: NEAREST=1 LINEAR=2 CUBIC=3 AREA=4
  1 width uint32, 2 height uint32, 3 type ResampleType=LINEAR, 4 antialias bool=true, 5 factor float=1.0
DownsampleParameter
  1 top_height uint32=0, 2 top_width uint32=0
LpqLossParameter
  4010 pq_episode_starts_at_iter uint32*, 4011 p float*, 4012 q float*, 4013 p_epsilon float=0.0,
  4014 q_epsilon float=0.01, 4016 l2_prescale_by_channels bool=false, 4017 normalize_by_num_entries bool=false
FlowWarpParameter
  enum FillParameter: ZERO=1 NOT_A_NUMBER=2
  1 fill_value FillParameter=ZERO
AccumParameter
  1 top_height uint32=0, 2 top_width uint32=0, 3 size_divisible_by uint32=0, 4 have_reference bool=false
"""
