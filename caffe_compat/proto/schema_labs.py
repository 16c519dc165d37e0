"""Messages of forks that one group each kept for one paper, in the language of ``schema_data.py``.

Numbers of ``LayerParameter`` are private ones: the forks' collide with Caffe 1.0's and with each other's.
"""

__all__ = ["LABS"]

# HyeonwooNoh/caffe (unpooling_param 44 of the V1 message, eltwise_accuracy_param 43, ImageDataParameter 13 and 15);
# TheLegendAli/CCVL, which is DeepLab's (interp_param, padding_param, mat_write_param, softmaxloss_param of V1; hole
# 17 to 19)
PIXELS = """
V1LayerParameter
  enum LayerType: UNPOOLING=1061 IMAGE_SEG_DATA=1062 WINDOW_SEG_DATA=1063 ELTWISE_ACCURACY=1064 INTERP=1065
  enum LayerType: SEG_ACCURACY=1066 MAT_WRITE=1067 PADDING=1068 MULTI_STAGE_MEANFIELD=1069
  8016061 unpooling_param UnpoolingParameter, 8016062 eltwise_accuracy_param EltwiseAccuracyParameter,
  8016063 interp_param InterpParameter, 8016064 seg_accuracy_param SegAccuracyParameter,
  8016065 mat_write_param MatWriteParameter, 8016066 padding_param PaddingParameter,
  8016067 softmaxloss_param SoftmaxLossParameter, 8016068 multi_stage_meanfield_param MultiStageMeanfieldParameter
LayerParameter
  8016061 unpooling_param UnpoolingParameter, 8016062 eltwise_accuracy_param EltwiseAccuracyParameter,
  8016065 mat_write_param MatWriteParameter, 8016066 padding_param PaddingParameter,
  8016067 softmaxloss_param SoftmaxLossParameter, 8016068 multi_stage_meanfield_param MultiStageMeanfieldParameter
UnpoolingParameter
  enum UnpoolMethod: MAX=0 AVE=1 TILE=2
  enum Engine: DEFAULT=0 CAFFE=1
  1 unpool UnpoolMethod=MAX, 2 kernel_size uint32, 3 stride uint32=1, 4 pad uint32=0, 5 kernel_h uint32,
  6 kernel_w uint32, 7 stride_h uint32, 8 stride_w uint32, 9 pad_h uint32=0, 10 pad_w uint32=0,
  11 engine Engine=DEFAULT, 12 unpool_size uint32, 13 unpool_h uint32, 14 unpool_w uint32
EltwiseAccuracyParameter
  1 top_k uint32=1, 2 ignore_label int32
MatWriteParameter
  1 prefix string, 2 source string="", 3 strip int32=0, 4 period int32=1
PaddingParameter
  1 pad_beg int32=0, 2 pad_end int32=0
SoftmaxLossParameter
  16 weight_source string, 2 ignore_label int32*
MultiStageMeanfieldParameter
  enum Mode: POTTS=0
  1 compatibility_mode Mode=POTTS, 2 threshold float, 3 theta_alpha float=10.0, 4 theta_beta float=10.0,
  5 theta_gamma float=10.0, 6 num_iterations uint32=1, 7 spatial_filter_weight float=1.0,
  8 bilateral_filter_weight float=1.0, 9 forced_spatial_filter_weight float,
  10 forced_bilateral_filter_weight float, 19 spatial_filter_weights_str string="",
  20 bilateral_filter_weights_str string="", 29 force_cpu bool=false
ConvolutionParameter
  8016041 hole uint32=1, 8016042 hole_h uint32=1, 8016043 hole_w uint32=1
ImageDataParameter
  8016041 has_label bool=true
"""

# Cysu/caffe, branch domain-guided-dropout
PERSONS = """
LayerParameter
  8016069 guided_dropout_param GuidedDropoutParameter
GuidedDropoutParameter
  1 type string="deterministic", 2 guidance_threshold float=0.0, 3 sigmoid_scaler float=1.0
V1LayerParameter
  8016070 strict_dim bool=true
"""

# yjxiong/caffe, branch action_recog; mpi_skip_step, of branch mpi_parallel, counts between processes of MPI
ACTION = """
LayerParameter
  8016071 batch_reduction_param BatchReductionParameter
DataParameter
  8016072 mpi_skip_step uint32=0
BatchReductionParameter
  1 level int32*, 2 reduction_param ReductionParameter, 3 pos bool=false
ReductionParameter
  enum ReductionOp: TOPK=5
  4 k int32=1
"""

LABS = (PIXELS, PERSONS, ACTION)
