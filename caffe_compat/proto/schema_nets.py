"""Messages of the forks that compact nets, R-FCN, SegNet, PSPNet and YOLO are trained with; see ``schema_forks.py``."""

__all__ = [
    "C3D",
    "CASCADE",
    "CLUSTERED",
    "COMPACT",
    "DENSE",
    "DETECTNET",
    "FACE",
    "MSCNN",
    "NORMS",
    "OLD",
    "PVANET",
    "RFCN",
    "SEGMENTATION",
    "SYNOPSYS",
    "TILING",
    "VIDEO",
    "YOLO",
]

# eric612/MobileNet-YOLO, farmingyard/ShuffleNet: src/caffe/proto/caffe.proto
COMPACT = """
LayerParameter
  164 shuffle_channel_param ShuffleChannelParameter, 211 relu6_param ReLUParameter
ShuffleChannelParameter
  1 group uint32=1
"""

# daijifeng001/caffe-rfcn, branch r-fcn; its PRE_FIXED is 3 and moves NONE to 4; SeLu is soeaver/py-RFCN-priv's
RFCN = """
LayerParameter
  10000 box_annotator_ohem_param BoxAnnotatorOHEMParameter, 10001 psroi_pooling_param PSROIPoolingParameter,
  1001 selu_param SeLuParameter, 1002 selu_dropout_param SeLuDropoutParameter
SeLuParameter
  1 lambda float=1.050700987, 2 alpha float=1.67326324
SeLuDropoutParameter
  1 dropout_ratio float=0.1, 2 alpha float=-1.75809934
LossParameter
  enum NormalizationMode: PRE_FIXED=1003
  4 pre_fixed_normalizer float=1.0
BoxAnnotatorOHEMParameter
  1 roi_per_img uint32!, 2 ignore_label int32=-1
PSROIPoolingParameter
  1 spatial_scale float!, 2 output_dim int32!, 3 group_size int32!
"""

# hszhao/PSPNet; numbers of LayerParameter are those of soeaver/py-RFCN-priv (in PSPNet interp_param is 143 and
# seg_accuracy_param 144).  Private numbers, since others have theirs: PSPNet's TransformationParameter 8 to 10 and
# ImageDataParameter 15 and 16; alexgkendall/caffe-segnet's BNParameter (scale_filler 1, shift_filler 2, bn_mode 3),
# LossParameter 3 and 4 and DropoutParameter 2; eric612/MobileNet-YOLO's UpsampleParameter (scale 1)
SEGMENTATION = """
LayerParameter
  152 bn_param BNParameter, 20001 interp_param InterpParameter, 20003 seg_accuracy_param SegAccuracyParameter
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
  6 pad_end int32=0, 7 use_blob_size bool=false
SegAccuracyParameter
  enum AccuracyMetric: PixelAccuracy=0 ClassAccuracy=1 PixelIOU=2
  1 metric AccuracyMetric=PixelAccuracy, 2 ignore_label int32*, 3 reset bool=true
TransformationParameter
  8000023 scale_factors float*, 8000024 crop_width uint32=0, 8000025 crop_height uint32=0
ImageDataParameter
  enum LabelType: NONE=0 IMAGE=1 PIXEL=2
  8000017 ignore_label int32=255, 8000018 label_type LabelType=IMAGE
LossParameter
  8000003 weight_by_label_freqs bool=false, 8000004 class_weighting float*
DropoutParameter
  8000003 sample_weights_test bool=false
"""

# eric612/MobileNet-YOLO (reorg_param 149); intel/caffe's region_loss_param is 209, of another ground truth
YOLO = """
LayerParameter
  149 reorg_param ReorgParameter, 600 region_loss_param RegionLossParameter,
  601 yolo_detection_output_param YoloDetectionOutputParameter,
  602 yolov3_detection_output_param Yolov3DetectionOutputParameter, 603 yolov3_param Yolov3Parameter
ReorgParameter
  1 stride uint32, 2 reverse bool=false
RegionLossParameter
  1 side uint32=13, 2 num_class uint32=20, 3 bias_match uint32=1, 4 coords uint32=4, 5 num uint32=5,
  6 softmax uint32=1, 7 jitter float=0.2, 8 rescore uint32=1, 9 object_scale float=1.0, 10 class_scale float=1.0,
  11 noobject_scale float=0.5, 12 coord_scale float=5.0, 13 absolute uint32=1, 14 thresh float=0.2,
  15 random uint32=1, 16 biases float*, 17 softmax_tree string, 18 class_map string
YoloDetectionOutputParameter
  1 side uint32=13, 2 num_classes uint32=20, 3 num_box uint32=5, 4 coords uint32=4,
  5 confidence_threshold float=0.01, 6 nms_threshold float=0.45, 7 biases float*, 8 label_map_file string
Yolov3DetectionOutputParameter
  1 num_classes uint32=20, 2 num_box uint32=3, 3 confidence_threshold float=0.01, 4 nms_threshold float=0.45,
  5 biases float*, 6 anchors_scale uint32*, 7 mask_group_num uint32=2, 8 mask uint32*, 9 gaussian_box bool=false
Yolov3Parameter
  enum IOU_LOSS: IOU=0 GIOU=1 MSE=2 DIOU=3 CIOU=4
  1 side uint32=13, 2 num_class uint32=20, 3 num uint32=5, 4 object_scale float=1.0, 5 class_scale float=1.0,
  6 noobject_scale float=0.5, 7 coord_scale float=5.0, 8 thresh float=0.2, 10 anchors_scale uint32=32,
  11 biases float*, 12 mask uint32*, 13 use_logic_gradient bool=false, 14 use_focal_loss bool=false,
  15 iou_loss IOU_LOSS=MSE, 16 iou_normalizer float=0.25, 17 iou_thresh float=0.5, 18 max_delta float=10.0,
  19 accumulate bool=true, 20 label_smooth_eps float=0.1
"""

# intel/caffe's BatchNormParameter has 5 use_weight_bias, 6 bias_term, 7 filler, 8 bias_filler; NVIDIA/caffe's 5
# scale_filler, 6 bias_filler, 7 scale_bias
NORMS = """
BatchNormParameter
  8000005 use_weight_bias bool=true, 8000006 bias_term bool=true, 8000007 filler FillerParameter,
  8000008 bias_filler FillerParameter, 8000009 scale_filler FillerParameter, 8000010 scale_bias bool=false
"""

# ydwen/caffe-face: 147, which is Caffe's swish_param
FACE = """
LayerParameter
  8001147 center_loss_param CenterLossParameter
CenterLossParameter
  1 num_output uint32, 2 center_filler FillerParameter, 3 axis int32=1
"""

# alexgkendall/caffe-segnet: 138, which is Caffe's tile_param; 13 of its message is TimoSaemann/caffe-enet's
DENSE = """
LayerParameter
  8001138 dense_image_data_param DenseImageDataParameter
DenseImageDataParameter
  1 source string, 2 batch_size uint32, 3 rand_skip uint32=0, 4 shuffle bool=false, 5 new_height uint32=0,
  6 new_width uint32=0, 7 is_color bool=true, 8 mean_file string, 9 root_folder string="", 10 mirror bool=false,
  11 crop_width uint32=0, 12 crop_height uint32=0, 13 label_divide_factor uint32=1
"""

# foss-for-synopsys-dwc-arc-processors/synopsys-caffe; more of it is in schema_synopsys.py
SYNOPSYS = """
LayerParameter
  8002001 squeeze_param SqueezeParameter, 8002002 mul_param MulParameter
SqueezeParameter
  1 axis int32*
MulParameter
  1 mul_shape uint32*
ConvolutionParameter
  8000026 pad_l int32=0, 8000027 pad_r int32=0, 8000028 pad_t int32=0, 8000029 pad_b int32=0
PoolingParameter
  enum PoolMethod: AVE_EXC_PAD=1004
  8000016 pad_l uint32=0, 8000017 pad_r uint32=0, 8000018 pad_t uint32=0, 8000019 pad_b uint32=0
ReLUParameter
  8000003 relu6 bool=false
"""

# Layer types of forks of the time of V1 nets: lim0606/caffe-googlenet-bn's and DeconvNet's BN, longjon/caffe's CROP
OLD = """
V1LayerParameter
  enum LayerType: BN=1040 CROP=1041
  8000041 bn_param BNParameter
"""

# VideoData: weiliu89/caffe's message (1 to 4, of its own numbers) and yjxiong/caffe's, with its transform fields
VIDEO = """
LayerParameter
  207 video_data_param VideoDataParameter
VideoDataParameter
  enum VideoType: WEBCAM=0 VIDEO=1
  enum Modality: RGB=0 FLOW=1
  8000001 video_type VideoType=WEBCAM, 8000002 device_id int32=0, 8000003 video_file string,
  8000004 skip_frames uint32=0, 1 source string, 2 scale float=1.0, 3 mean_file string, 4 batch_size uint32,
  5 crop_size uint32=0, 6 mirror bool=false, 7 rand_skip uint32=0, 8 shuffle bool=false, 9 new_height uint32=0,
  10 new_width uint32=0, 11 new_length uint32=1, 12 num_segments uint32=1, 13 modality Modality=FLOW,
  14 name_pattern string, 15 encoded bool=false, 16 grayscale bool=false, 8000005 is_color bool=true,
  8000006 root_folder string="", 8000007 show_data bool=false, 8000008 use_image bool=false,
  8000009 use_temporal_jitter bool=false, 8000010 sampling_rate uint32=1, 8000011 max_sampling_rate uint32=1,
  8000012 use_sampling_rate_jitter bool=false, 8000013 use_multiple_label bool=false,
  8000014 num_of_labels uint32=1
TransformationParameter
  8000030 fix_crop bool=false, 8000031 multi_scale bool=false, 8000032 scale_ratios float*,
  8000033 max_distort int32=1, 8000034 is_flow bool=false, 8000035 more_fix_crop bool=false
"""

# NVIDIA/caffe: 8000xxx are private
DETECTNET = """
LayerParameter
  8000161 detectnet_groundtruth_param DetectNetGroundTruthParameter,
  8000162 detectnet_augmentation_param DetectNetAugmentationParameter
DetectNetGroundTruthParameter
  enum GridboxType: GRIDBOX_MAX=0 GRIDBOX_MIN=1
  enum CoverageType: RECTANGULAR=0
  1 stride uint32=4, 2 scale_cvg float=0.5, 3 gridbox_type GridboxType=GRIDBOX_MAX, 4 max_cvg_len uint32=50,
  5 min_cvg_len uint32=50, 7 coverage_type CoverageType=RECTANGULAR, 8 image_size_x uint32=1248,
  9 image_size_y uint32=384, 11 obj_norm bool=false, 12 crop_bboxes bool=true,
  13 object_class DetectNetClassMapping*
DetectNetClassMapping
  1 src uint32!, 2 dst uint32!
DetectNetAugmentationParameter
  1 crop_prob float=1.0, 2 shift_x uint32=0, 3 shift_y uint32=0, 4 scale_prob float=0.33, 5 scale_min float=0.7,
  6 scale_max float=1.0, 7 flip_prob float=0.33, 8 rotation_prob float=0.33, 9 max_rotate_degree float=1.0,
  10 hue_rotation_prob float=0.33, 11 hue_rotation float=15.0, 12 desaturation_prob float=0.33,
  13 desaturation_max float=0.5
"""

# SeokjuLee/VPGNet
TILING = """
LayerParameter
  8000171 tiling_param TilingParameter
TilingParameter
  1 tile_dim int32
"""

# The fork of OpenVINO's Open Model Zoo, of which only the nets are public
CLUSTERED = """
PriorBoxParameter
  8000003 height float*, 8000004 width float*
"""

# sanghoon/caffe, branch dev_pvanet: 8266713, private here
PVANET = """
LayerParameter
  8266713 proposal_param ProposalParameter
ProposalParameter
  1 feat_stride uint32=16, 2 base_size uint32=16, 3 min_size uint32=16, 4 ratio float*, 5 scale float*,
  6 pre_nms_topn uint32=6000, 7 post_nms_topn uint32=300, 8 nms_thresh float=0.7
"""

# zhaoweicai/mscnn: 149 to 155; private numbers, since others have them
MSCNN = """
LayerParameter
  8003149 detection_loss_param DetectionLossParameter, 8003150 detection_accuracy_param DetectionAccuracyParameter,
  8003151 box_output_param BoxOutputParameter, 8003152 proposal_target_param ProposalTargetParameter,
  8003153 image_gt_data_param ImageGtDataParameter, 8003154 bbox_reg_param BBoxRegParameter,
  8003155 decode_bbox_param DecodeBBoxParameter
BoxOutputParameter
  1 fg_thr float=0.0, 2 iou_thr float=0.5, 3 nms_type string="IOU", 4 field_h uint32*, 5 field_w uint32*,
  6 downsample_rate uint32*, 7 field_whr float=2.0, 8 field_xyr float=2.0, 9 max_nms_num uint32=0,
  10 max_post_nms_num uint32=0, 11 min_size float=15.0
BBoxRegParameter
  1 bbox_mean float*, 2 bbox_std float*, 3 cls_aware bool=true
ROIPoolingParameter
  4 pad_ratio float=0.0
DecodeBBoxParameter
  1 gt_iou_thr float=0.95
DetectionLossParameter
  1 cls_num uint32, 2 coord_num uint32=4, 3 lambda float=1.0, 4 field_h uint32, 5 field_w uint32,
  6 downsample_rate uint32, 7 bb_smooth bool=true, 8 field_whr float=2.0, 9 field_xyr float=2.0,
  10 bg_threshold float=0.5, 11 bg_multiple uint32=4, 12 sample_mode string="random", 13 objectness bool=false,
  14 iou_weighted bool=false, 15 pos_neg_weighted bool=false
DetectionAccuracyParameter
  1 cls_num uint32, 2 coord_num uint32=4, 3 field_h uint32, 4 field_w uint32, 5 downsample_rate uint32,
  6 top_k uint32=1, 7 field_whr float=2.0, 8 field_xyr float=4.0, 9 bg_threshold float=0.5, 10 objectness bool=false
ProposalTargetParameter
  1 cls_num uint32, 2 batch_size int32=128, 3 fg_fraction float=0.25, 4 num_img_per_batch uint32=4,
  5 fg_thr float=0.5, 6 bg_thr_hg float=0.5, 7 bg_thr_lw float=0.1, 8 img_width uint32, 9 img_height uint32,
  10 iou_weighted bool=false
ImageGtDataParameter
  1 source string, 2 scale float=1.0, 3 mean_file string, 4 batch_size uint32, 5 mirror bool=false,
  6 downsample_rate uint32*, 7 coord_num uint32=4, 8 field_h uint32*, 9 field_w uint32*, 10 fg_threshold float=0.5,
  11 resize_width uint32, 12 resize_height uint32, 13 crop_width uint32=0, 14 crop_height uint32=0,
  15 do_multiple_scale bool=false, 16 min_scale uint32, 17 max_scale uint32, 18 min_whaspect float,
  19 max_whaspect float, 20 min_gt_width float=0.0, 21 min_gt_height float=0.0, 22 shuffle bool=false,
  23 output_gt_boxes bool=false, 24 fg_img_multiple uint32=1, 25 cache_images bool=false,
  26 root_folder string=""
"""

# zhaoweicai/cascade-rcnn: 151 to 160; private numbers, since others have them
CASCADE = """
LayerParameter
  8014151 detection_data_param DetectionDataParameter, 8014152 eval_data_param EvalDataParameter,
  8014153 hard_mining_param HardMiningParameter, 8014154 scale_route_param ScaleRouteParameter,
  8014156 detection_group_loss_param DetectionGroupLossParameter,
  8014157 detection_group_accuracy_param DetectionGroupAccuracyParameter,
  8014158 box_group_output_param BoxGroupOutputParameter, 8014160 frcnn_output_param FrcnnOutputParameter
ProposalTargetParameter
  11 bbox_thr_lw float=0.0, 12 bbox_thr_hg float=10.0, 13 pickup_discard bool=true, 14 append_gtbox bool=true
HardMiningParameter
  1 num_roi_per_image uint32=128, 2 num_image uint32=4
ScaleRouteParameter
  1 low_scale float, 2 high_scale float
DetectionGroupLossParameter
  1 cls_num uint32, 2 lambda float=1.0, 3 field_h uint32*, 4 field_w uint32*, 5 stride uint32, 6 field_whr float=4.0,
  7 field_xyr float=0.25, 8 bg_threshold float=0.5, 9 bg_multiple uint32=4, 10 neg_mining_type string="random",
  11 neg_ranking_type string="conf_loss", 12 min_num_neg uint32=5, 13 objectness bool=false, 14 batch_size int32=-1,
  15 pos_neg_weighted bool=false, 16 bbox_loss_type string="Smooth_L1"
DetectionGroupAccuracyParameter
  1 cls_num uint32, 2 field_h uint32*, 3 field_w uint32*, 4 stride uint32, 5 field_whr float=2.0,
  6 field_xyr float=4.0, 7 bg_threshold float=0.5, 8 objectness bool=false
BoxGroupParameter
  1 field_h uint32*, 2 field_w uint32*, 3 stride uint32
BoxGroupOutputParameter
  1 fg_thr float=0.0, 2 iou_thr float=0.5, 3 nms_type string="IOU", 4 box_group_param BoxGroupParameter*,
  5 field_whr float=2.0, 6 field_xyr float=2.0, 7 max_nms_num uint32=0, 8 max_post_nms_num uint32=0,
  9 min_size float=15.0
FrcnnOutputParameter
  1 conf_thr float=0.0, 2 iou_thr float=0.5, 3 nms_type string="IOU", 4 max_det_num uint32=0,
  5 save_output_param SaveOutputParameter
DetectionDataParameter
  1 source string, 2 scale float=1.0, 3 batch_size uint32, 4 coord_num uint32=4, 5 stride uint32*, 6 field_h uint32*,
  7 field_w uint32*, 8 fg_threshold float=0.5, 9 ignore_fg_threshold float=0.4, 10 resize_width uint32,
  11 resize_height uint32, 12 crop_width uint32=0, 13 crop_height uint32=0, 14 min_scale float, 15 max_scale float,
  16 multiscale_prob float=0.5, 17 min_whaspect float, 18 max_whaspect float, 19 short_size uint32,
  20 long_size uint32, 21 min_gt_width float=0.0, 22 min_gt_height float=0.0, 23 shuffle string="random",
  24 output_gt_boxes bool=false, 25 cache_images bool=false, 26 root_folder string="",
  27 distort_param DistortionParameter, 28 resize_param ResizeParameter, 29 resize_ratio float,
  30 crop_short_size uint32, 31 crop_long_size uint32, 32 low_scale_ratio float, 33 high_scale_ratio float,
  34 anchor_ignore_margin_ratio float, 35 anchor_ignore_iou_thr float, 36 pickup_iou_thr float=0.2,
  37 mix_group_size uint32=64, 38 template_ratio float*
EvalDataParameter
  1 source string, 2 scale float=1.0, 3 batch_size uint32, 4 resize_width uint32, 5 resize_height uint32,
  6 short_size uint32, 7 long_size uint32, 8 root_folder string=""
"""

# facebook/C3D: 6661 and 6662, and in LayerParameter of version 1.0, which is V1LayerParameter here, fields of other
# messages, moved by upgrade_c3d.py; layer types 30 to 40 of that time are Caffe's own others
C3D = """
LayerParameter
  6661 convolution3d_param Convolution3DParameter, 6662 pooling3d_param Pooling3DParameter,
  8006663 down_sampling_param DownSamplingParameter
V1LayerParameter
  enum LayerType: CONVOLUTION3D=1030 POOLING3D=1031 VIDEO_DATA=1033 DECONVOLUTION3D=1034
    VIDEO_SEGMENTATION_DATA=1035 VOXEL_SOFTMAX=1036 VOXEL_SOFTMAX_LOSS=1037 VIDEO_WITH_VOXEL_TRUTH_DATA=1038
    VOXEL_CUSTOM_LOSS=1039 DOWN_SAMPLING=1042
  8000042 down_sampling_param DownSamplingParameter
Convolution3DParameter
  1 num_output uint32, 2 bias_term bool=true, 3 pad uint32=0, 4 kernel_size uint32, 5 group uint32=1,
  6 kernel_depth uint32, 7 stride uint32=1, 8 temporal_stride uint32=1, 9 weight_filler FillerParameter,
  10 bias_filler FillerParameter, 11 filter_group uint32=1, 12 temporal_pad uint32=0
Pooling3DParameter
  enum PoolMethod: MAX=0 AVE=1 STOCHASTIC=2
  1 pool PoolMethod=MAX, 2 kernel_size uint32, 3 stride uint32=1, 4 pad uint32=0, 5 kernel_depth uint32,
  6 temporal_stride uint32=1
DownSamplingParameter
  enum DownSamplingType: NONE=0 VOTE=1 AVERAGE=2
  1 type DownSamplingType=VOTE, 2 spatial_factor int32, 3 temporal_factor int32
ConvolutionParameter
  8000031 kernel_depth uint32, 8000032 temporal_stride uint32=1, 8000033 filter_group uint32=1,
  8000034 temporal_pad uint32=0
PoolingParameter
  8000031 kernel_depth uint32, 8000032 temporal_stride uint32=1
ImageDataParameter
  8000031 new_length uint32=0, 8000032 show_data int32=0, 8000033 use_image bool=false,
  8000034 sampling_rate int32=1, 8000035 use_label bool=true, 8000036 use_temporal_jitter bool=false,
  8000037 mean_value float=0.0, 8000038 num_truth_channels uint32=1, 8000039 use_byte_input bool=false,
  8000040 is_flow bool=false, 8000041 truth_scale float=1.0, 8000042 clip_min float, 8000043 clip_max float
VideoDataParameter
  8000038 num_truth_channels uint32=1, 8000039 use_byte_input bool=false, 8000040 is_flow bool=false,
  8000041 truth_scale float=1.0, 8000042 clip_min float, 8000043 clip_max float
"""
