"""Messages and fields of forks, in the language of ``schema_data.py``; a family of forks a text.

A line that names a message of another table adds to it: ``LayerParameter`` and then fields, or ``enum Engine:`` and
then values.  Numbers are the forks' own unless they collide with Caffe 1.0's or another fork's; then they are private
ones above 8000000 (1000 for values of enums).  In text only names matter, and weights files are read without the
parameters inside.
"""

from caffe_compat.proto import schema_flow, schema_labs, schema_nets, schema_normface, schema_small, schema_synopsys

__all__ = ["FORKS"]

FAST_RCNN = """
LayerParameter
  8266711 roi_pooling_param ROIPoolingParameter, 8266712 smooth_l1_loss_param SmoothL1LossParameter
DropoutParameter
  2 scale_train bool=true
ROIPoolingParameter
  1 pooled_h uint32=0, 2 pooled_w uint32=0, 3 spatial_scale float=1.0
SmoothL1LossParameter
  1 sigma float=1.0
"""

SDS = """
LayerParameter
  9000137 box_upsample_param BoxUpsampleParameter,
  9000138 local_layer_param LocallyConnectedLayerWithLossParameter, 9000140 repmat_param RepMatParameter,
  9000143 pick_slice_param PickSliceParameter, 9000144 upsample_param UpsampleParameter
ScaleParameter
  9000142 scale float
BoxUpsampleParameter
  1 width uint32, 2 height uint32, 3 channels uint32
LocallyConnectedLayerWithLossParameter
  1 grid_size uint32, 2 neg_loss_wt float, 3 pos_loss_wt float
RepMatParameter
  1 rep_w uint32=1, 2 rep_h uint32=1, 3 rep_c uint32=1, 4 rep_n uint32=1
PickSliceParameter
  1 channels uint32
UpsampleParameter
  1 width uint32, 2 height uint32
"""

OWN = """
LayerParameter
  8266801 paired_image_data_param PairedImageDataParameter, 8266802 foreign_net_param ForeignNetParameter
SolverParameter
  8266801 dialect string=""
PairedImageDataParameter
  1 source string, 2 root_folder string="", 3 batch_size uint32=2, 4 new_height uint32, 5 new_width uint32,
  6 crop_height uint32, 7 crop_width uint32, 8 shuffle bool, 9 mirror bool, 10 mean_value float*,
  11 mean_value_1 float*, 12 prefetch uint32=4, 13 scale float=1.0, 14 negate_x_channel int32=-1,
  15 seed int64=-1, 16 short_side uint32, 17 multiple_of uint32=1, 18 negate_about float=128.0,
  19 proposals string="", 20 rois_per_image uint32=64, 21 top_k uint32=2000
ForeignNetParameter
  1 source string, 2 feature string*, 3 weights string="", 4 random_seed uint32=0, 5 mean float*, 6 std float*,
  7 pixel_range float=255.0, 8 rgb bool=true
"""

# weiliu89/caffe, branch ssd: src/caffe/proto/caffe.proto
SSD = """
LayerParameter
  200 annotated_data_param AnnotatedDataParameter, 201 multibox_loss_param MultiBoxLossParameter,
  202 permute_param PermuteParameter, 203 prior_box_param PriorBoxParameter,
  204 detection_output_param DetectionOutputParameter, 205 detection_evaluate_param DetectionEvaluateParameter,
  206 norm_param NormalizeParameter
SolverParameter
  8000041 eval_type string="classification", 8000042 ap_version string="Integral",
  8000043 plateau_winsize int32*, 8000044 show_per_class_result bool=false
SolverState
  5 minimum_loss float=1e38, 6 iter_last_event int32=0
TransformationParameter
  8 resize_param ResizeParameter*, 9 noise_param NoiseParameter, 10 emit_constraint EmitConstraint,
  11 crop_h uint32=0, 12 crop_w uint32=0, 13 distort_param DistortionParameter, 14 expand_param ExpansionParameter
LabelMapItem
  1 name string, 2 label int32, 3 display_name string
LabelMap
  1 item LabelMapItem*
Sampler
  1 min_scale float=1.0, 2 max_scale float=1.0, 3 min_aspect_ratio float=1.0, 4 max_aspect_ratio float=1.0
SampleConstraint
  1 min_jaccard_overlap float, 2 max_jaccard_overlap float, 3 min_sample_coverage float,
  4 max_sample_coverage float, 5 min_object_coverage float, 6 max_object_coverage float
BatchSampler
  1 use_original_image bool=true, 2 sampler Sampler, 3 sample_constraint SampleConstraint, 4 max_sample uint32,
  5 max_trials uint32=100
EmitConstraint
  enum EmitType: CENTER=0 MIN_OVERLAP=1
  1 emit_type EmitType=CENTER, 2 emit_overlap float
NormalizedBBox
  1 xmin float, 2 ymin float, 3 xmax float, 4 ymax float, 5 label int32, 6 difficult bool, 7 score float, 8 size float
Annotation
  1 instance_id int32=0, 2 bbox NormalizedBBox
AnnotationGroup
  1 group_label int32, 2 annotation Annotation*
AnnotatedDatum
  enum AnnotationType: BBOX=0
  1 datum Datum, 2 type AnnotationType, 3 annotation_group AnnotationGroup*
ResizeParameter
  enum Resize_mode: WARP=1 FIT_SMALL_SIZE=2 FIT_LARGE_SIZE_AND_PAD=3
  enum Pad_mode: CONSTANT=1 MIRRORED=2 REPEAT_NEAREST=3
  enum Interp_mode: LINEAR=1 AREA=2 NEAREST=3 CUBIC=4 LANCZOS4=5
  1 prob float=1.0, 2 resize_mode Resize_mode=WARP, 3 height uint32=0, 4 width uint32=0,
  5 pad_mode Pad_mode=CONSTANT, 6 pad_value float*, 7 interp_mode Interp_mode*, 8 height_scale uint32=0,
  9 width_scale uint32=0
SaltPepperParameter
  1 fraction float=0.0, 2 value float*
NoiseParameter
  1 prob float=0.0, 2 hist_eq bool=false, 3 inverse bool=false, 4 decolorize bool=false, 5 gauss_blur bool=false,
  6 jpeg float=-1.0, 7 posterize bool=false, 8 erode bool=false, 9 saltpepper bool=false,
  10 saltpepper_param SaltPepperParameter, 11 clahe bool=false, 12 convert_to_hsv bool=false,
  13 convert_to_lab bool=false
DistortionParameter
  1 brightness_prob float=0.0, 2 brightness_delta float=0.0, 3 contrast_prob float=0.0, 4 contrast_lower float=0.0,
  5 contrast_upper float=0.0, 6 hue_prob float=0.0, 7 hue_delta float=0.0, 8 saturation_prob float=0.0,
  9 saturation_lower float=0.0, 10 saturation_upper float=0.0, 11 random_order_prob float=0.0
ExpansionParameter
  1 prob float=1.0, 2 max_expand_ratio float=1.0
AnnotatedDataParameter
  1 batch_sampler BatchSampler*, 2 label_map_file string, 3 anno_type AnnotatedDatum.AnnotationType,
  4 yolo_data_type int32=0, 5 yolo_data_jitter float=0.3, 6 train_diffcult bool=true
DetectionEvaluateParameter
  1 num_classes uint32, 2 background_label_id uint32=0, 3 overlap_threshold float=0.5,
  4 evaluate_difficult_gt bool=true, 5 name_size_file string, 6 resize_param ResizeParameter
NonMaximumSuppressionParameter
  1 nms_threshold float=0.3, 2 top_k int32, 3 eta float=1.0
SaveOutputParameter
  1 output_directory string, 2 output_name_prefix string, 3 output_format string, 4 label_map_file string,
  5 name_size_file string, 6 num_test_image uint32, 7 resize_param ResizeParameter
DetectionOutputParameter
  1 num_classes uint32, 2 share_location bool=true, 3 background_label_id int32=0,
  4 nms_param NonMaximumSuppressionParameter, 5 save_output_param SaveOutputParameter,
  6 code_type PriorBoxParameter.CodeType=CORNER, 7 keep_top_k int32=-1, 8 variance_encoded_in_target bool=false,
  9 confidence_threshold float, 10 visualize bool=false, 11 visualize_threshold float, 12 save_file string
MultiBoxLossParameter
  enum LocLossType: L2=0 SMOOTH_L1=1
  enum ConfLossType: SOFTMAX=0 LOGISTIC=1
  enum MatchType: BIPARTITE=0 PER_PREDICTION=1
  enum MiningType: NONE=0 MAX_NEGATIVE=1 HARD_EXAMPLE=2
  1 loc_loss_type LocLossType=SMOOTH_L1, 2 conf_loss_type ConfLossType=SOFTMAX, 3 loc_weight float=1.0,
  4 num_classes uint32, 5 share_location bool=true, 6 match_type MatchType=PER_PREDICTION,
  7 overlap_threshold float=0.5, 8 use_prior_for_matching bool=true, 9 background_label_id uint32=0,
  10 use_difficult_gt bool=true, 11 do_neg_mining bool, 12 neg_pos_ratio float=3.0, 13 neg_overlap float=0.5,
  14 code_type PriorBoxParameter.CodeType=CORNER, 16 encode_variance_in_target bool=false,
  17 map_object_to_agnostic bool=false, 18 ignore_cross_boundary_bbox bool=false, 19 bp_inside bool=false,
  20 mining_type MiningType=MAX_NEGATIVE, 21 nms_param NonMaximumSuppressionParameter, 22 sample_size int32=64,
  23 use_prior_for_nms bool=false
NormalizeParameter
  1 across_spatial bool=true, 2 scale_filler FillerParameter, 3 channel_shared bool=true, 4 eps float=1e-10
PermuteParameter
  1 order uint32*
PriorBoxParameter
  enum CodeType: CORNER=1 CENTER_SIZE=2 CORNER_SIZE=3
  1 min_size float*, 2 max_size float*, 3 aspect_ratio float*, 4 flip bool=true, 5 clip bool=false,
  6 variance float*, 7 img_size uint32, 8 img_h uint32, 9 img_w uint32, 10 step float, 11 step_h float,
  12 step_w float, 13 offset float=0.5
"""

# BVLC/caffe, pull request 3057; lim0606/caffe-googlenet-bn.  The pull request gives ceil_mode the number 13, which is
# round_mode's in BVLC Caffe 1.0 with the opposite sense: a file written here always has round_mode (see upgrade.py).
SMALL = """
PoolingParameter
  8000013 ceil_mode bool=true
DataParameter
  8000011 shuffle bool=false
"""

# yjxiong/caffe: how much it tells, what memory it saves, in what order an epoch's records come
QUIET = """
NetParameter
  8000021 richness int32=100, 8000022 mem_param MemoryOptimizationParameter
MemoryOptimizationParameter
  1 optimize_train bool=true, 2 optimize_test bool=false, 3 exclude_blob string*
SolverParameter
  8000057 richness int32=300, 8000058 group_id int32*
DataParameter
  8000015 shuffle_pool_size uint32=1
"""

# What changes no result, forks_accepted.ACCEPTED: NVIDIA/caffe, branch caffe-0.17, and intel/caffe.  A type that both
# use for a field of the same name is the wider one.
NVIDIA = """
NetParameter
  enum Type: DOUBLE=0 FLOAT=1 FLOAT16=2 INT=3 UINT=4 BOOL=5
  8000011 default_forward_type Type=FLOAT, 8000012 default_backward_type Type=FLOAT,
  8000013 default_forward_math Type=FLOAT, 8000014 default_backward_math Type=FLOAT,
  8000015 global_grad_scale float=1.0, 8000016 global_grad_scale_adaptive bool=false,
  8000017 default_conv_algos_override string="-1,-1,-1", 8000018 reduce_buckets int32=6,
  8000019 default_cudnn_math_override int32=-1, 8000020 eltwise_mem_sharing bool=true
SolverParameter
  8000045 solver_data_type NetParameter.Type=FLOAT, 8000046 store_blobs_in_old_format bool=false,
  8000050 min_lr float=0.0, 8000051 rampup_interval int32=0, 8000052 rampup_lr float=0.0,
  8000061 larc bool=false, 8000062 larc_policy string="scale", 8000063 larc_eta float=0.001,
  8000064 larc_turbo bool=false
LayerParameter
  8000145 forward_type NetParameter.Type=FLOAT, 8000146 backward_type NetParameter.Type=FLOAT,
  8000147 forward_math NetParameter.Type=FLOAT, 8000148 backward_math NetParameter.Type=FLOAT,
  8000149 debug bool=false, 8000150 cudnn_math_override int32=-1
TransformationParameter
  enum Packing: NCHW=0 NHWC=1
  enum InterpolationAlgo: INTER_NEAREST=0 INTER_LINEAR=1 INTER_CUBIC=2 INTER_AREA=3
  8000008 use_gpu_transform bool=false, 8000010 img_rand_resize_lower uint32=0,
  8000011 img_rand_resize_upper uint32=0, 8000012 rand_resize_ratio_lower float=0.0,
  8000013 rand_resize_ratio_upper float=0.0, 8000014 vertical_stretch_lower float=1.0,
  8000015 vertical_stretch_upper float=1.0, 8000016 horizontal_stretch_lower float=1.0,
  8000017 horizontal_stretch_upper float=1.0, 8000018 interpolation_algo_down InterpolationAlgo=INTER_NEAREST,
  8000019 interpolation_algo_up InterpolationAlgo=INTER_CUBIC, 8000020 allow_upscale bool=false,
  8000021 forward_packing Packing=NCHW, 8000022 display bool=false
BatchNormParameter
  enum Engine: DEFAULT=0 CAFFE=1 CUDNN=2 MKL2017=3 MKLDNN=4
  8000015 engine Engine=DEFAULT
ConvolutionParameter
  enum CuDNNConvolutionAlgorithmSeeker: GET=0 FINDEX=1
  8000019 cudnn_convolution_algo_seeker CuDNNConvolutionAlgorithmSeeker=FINDEX,
  8000020 conv_algos_override string="-1,-1,-1"
DataParameter
  8000012 threads uint32=0, 8000013 parser_threads uint32=0, 8000014 cache bool=false, 8000016 precache bool=false
DropoutParameter
  enum Engine: DEFAULT=0 CAFFE=1 CUDNN=2
  8000002 engine Engine=DEFAULT
ImageDataParameter
  8000014 threads uint32=4, 8000015 cache bool=false, 8000016 precache bool=false
"""

# intel/caffe; its CompileNetState stands in files that it writes itself
INTEL = """
NetParameter
  8000009 engine string="", 8000101 multinode MultinodeParameter, 8000102 bn_stats_batch_size uint32=0
MnModelParallelParameter
  1 layer_from string!, 2 layer_to string, 3 num_nodes uint32, 4 model_parts uint32
MnParamGradCompressLayerTypeList
  1 layer_type string*
MultinodeParameter
  1 model_parallel MnModelParallelParameter*, 2 compress_layer_type_list MnParamGradCompressLayerTypeList
SolverParameter
  8000047 engine string="", 8000053 warmup_iter int32=0, 8000054 warmup_start_lr float=0.0, 8000055 stagelr float*,
  8000056 stageiter int32*
TransformationParameter
  8000036 random_resize_param RandomResizeParameter, 8000037 random_aspect_ratio_param RandomAspectRatioParameter,
  8000051 flow bool=false, 8000052 bgr2rgb bool=false, 8000053 pad uint32=0
RandomResizeParameter
  1 min_size uint32=0, 2 max_size uint32=0, 3 resize_param ResizeParameter
RandomAspectRatioParameter
  1 min_area_ratio float=0.5, 2 max_area_ratio float=1.0, 3 aspect_ratio_change float=1.0, 4 max_attempt uint32=10,
  5 resize_param ResizeParameter
MultinodeLayerParameter
  1 num_nodes uint32, 2 model_parts uint32=1
MnParamGradCompressParameter
  1 param_grad_compress_enable bool*
SplitParameter
  enum Engine: DEFAULT=0 CAFFE=1 MKL2017=3 MKLDNN=4
  1 engine Engine=DEFAULT
QuantizationParameter
  enum Precision: DYNAMIC_FIXED_POINT=0
  enum Rounding: NEAREST=0
  1 precision Precision=DYNAMIC_FIXED_POINT, 2 rounding_scheme Rounding=NEAREST, 3 bw_layer_in uint32=32,
  4 bw_layer_out uint32=32, 5 bw_params uint32=32, 6 fl_layer_in int32*, 7 fl_layer_out int32*, 8 fl_params int32*,
  20 scale_in float*, 21 scale_out float*, 22 scale_params float*, 23 is_negative_input bool=false,
  24 force_u8_input bool=false
LayerParameter
  8000151 engine string="", 8000152 multinode MultinodeLayerParameter, 8000156 mn_grad_compress_param
    MnParamGradCompressParameter, 8000158 quantization_param QuantizationParameter,
  8000208 split_param SplitParameter, 8000301 eval_detection_param EvalDetectionParameter
EvalDetectionParameter
  enum ScoreType: OBJ=0 PROB=1 MULTIPLY=2
  1 side uint32=7, 2 num_class uint32=20, 3 num_object uint32=2, 4 threshold float=0.5, 5 sqrt bool=true,
  6 constriant bool=true, 7 score_type ScoreType=MULTIPLY, 8 nms float=-1.0, 9 biases float*
ConcatParameter
  enum Engine: DEFAULT=0 CAFFE=1 MKL2017=3 MKLDNN=4
  8000003 engine Engine=DEFAULT, 8000004 per_fla_fuse bool=false
ReshapeParameter
  8000004 pixelshuffler int32=1
BatchNormParameter
  8000016 stats_batch_size uint32=0, 8000018 relu bool=false
ImageDataParameter
  8000051 min_height uint32=0, 8000052 min_width uint32=0
DataParameter
  8000031 side uint32*, 8000032 num_label uint32=30
RegionLossParameter
  8000019 num_label uint32=30
EltwiseParameter
  enum Engine: DEFAULT=0 CAFFE=1 MKL2017=3 MKLDNN=4
  8000004 engine Engine=DEFAULT
InnerProductParameter
  enum Engine: DEFAULT=0 CAFFE=1 CUDNN=2 MKLDNN=3
  8000007 engine Engine=DEFAULT, 8000008 relu bool=false, 8000009 negative_slope float=0.0
ConvolutionParameter
  enum Engine: MKL2017=3 MKLDNN=4
  enum FusionType: NONE_FUSION=0 SUM_FUSION=1
  8000021 conv_algorithm string="direct", 8000041 relu bool=false, 8000042 negative_slope float=0.0,
  8000043 coeff float*, 8000044 fusion_type FusionType=NONE_FUSION
LRNParameter
  enum Engine: MKL2017=3 MKLDNN=4
PoolingParameter
  enum Engine: MKL2017=3 MKLDNN=4
  8000021 avg_include_pad bool=true, 8000022 axis int32=1, 8000023 pad_3d uint32*, 8000024 kernel_size_3d uint32*,
  8000025 stride_3d uint32*, 8000026 last_inside bool=false
ReLUParameter
  enum Engine: MKL2017=3 MKLDNN=4
  8000004 fuse bool=false
"""

FORKS = (
    *(FAST_RCNN, SDS, OWN, SSD),
    *(
        schema_nets.COMPACT,
        schema_nets.RFCN,
        schema_nets.SEGMENTATION,
        schema_nets.YOLO,
        schema_nets.FACE,
        schema_nets.DENSE,
        schema_nets.NORMS,
        schema_nets.SYNOPSYS,
        schema_synopsys.CONVERTED,
        schema_normface.NORMFACE,
        schema_nets.OLD,
        schema_nets.VIDEO,
        schema_nets.PVANET,
        schema_nets.MSCNN,
        schema_nets.DETECTNET,
        schema_nets.CLUSTERED,
        schema_nets.TILING,
        schema_small.DEEPDETECT,
        schema_nets.C3D,
        schema_small.PLANKTON,
        schema_small.SPARSE,
        schema_nets.CASCADE,
        schema_small.SEQUENCES,
        schema_small.REGIONS,
        schema_flow.FLOWNET,
        schema_small.OCR,
        schema_small.POOLED_REGIONS,
    ),
    *schema_labs.LABS,
    *(SMALL, QUIET, NVIDIA, INTEL),
)
"""The families, in the order in which they are added to the schema."""
