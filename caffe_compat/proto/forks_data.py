"""Which Caffe forks have which layer types, fields and enum values that BVLC Caffe 1.0 lacks: the table.

Read from the forks' own caffe.proto and REGISTER_LAYER_CLASS.  A line without indentation names a repository and, if
it belongs to one, its dialect; below stand its layer types, and by message (or Message.Enum) its fields (values).  A
name's first owner here is where it comes from: forks were made of forks.
"""

from caffe_compat.proto.forks_labs import LABS

__all__ = ["AMBIGUOUS", "FORKS", "ORIGINS", "PYTHON"]

FORKS = f"""
rbgirshick/caffe-fast-rcnn
  type ROIPooling SmoothL1Loss
  LayerParameter roi_pooling_param smooth_l1_loss_param
  DropoutParameter scale_train
weiliu89/caffe ssd
  type AnnotatedData DetectionEvaluate DetectionOutput MultiBoxLoss Normalize Permute PriorBox SmoothL1Loss
    VideoData
  SolverParameter eval_type ap_version show_per_class_result plateau_winsize
  LayerParameter annotated_data_param detection_evaluate_param detection_output_param multibox_loss_param norm_param
    permute_param prior_box_param video_data_param
  TransformationParameter crop_h crop_w resize_param noise_param distort_param expand_param emit_constraint
alexgkendall/caffe-segnet segnet
  type BN DenseImageData Upsample
  LayerParameter bn_param dense_image_data_param upsample_param
  LossParameter weight_by_label_freqs class_weighting
  DropoutParameter sample_weights_test
TimoSaemann/caffe-enet segnet
  type BN DenseImageData Upsample
  LayerParameter upsample_param bn_param dense_image_data_param
  LossParameter weight_by_label_freqs class_weighting
  DropoutParameter sample_weights_test
  ImageDataParameter label_divide_factor
hszhao/PSPNet pspnet
  type AdaptiveBiasChannel BN BiasChannel DenseCRF DomainTransform DomainTransformForwardOnly ImageSegData Interp
    MatRead MatWrite SegAccuracy SpatialProduct UniqueLabel
  LayerParameter adaptive_bias_channel_param bn_param bias_channel_param dense_crf_param domain_transform_param
    interp_param mat_read_param mat_write_param seg_accuracy_param unique_label_param
  TransformationParameter scale_factors crop_width crop_height
  BatchNormParameter update_global_stats
  ImageDataParameter ignore_label label_type
  ImageDataParameter.LabelType NONE IMAGE PIXEL
yjxiong/caffe pspnet
  type BN BatchReduction Gather Normalize ROIPooling Scatter SegData SmoothL1Loss SyncBN VideoData
  NetParameter mem_param
  SolverParameter group_id richness
  LayerParameter bn_param seg_data_param video_data_param roi_pooling_param batch_reduction_param
  TransformationParameter fix_crop more_fix_crop multi_scale scale_ratios max_distort is_flow original_image stride
    upper_size upper_height upper_width
  ConvolutionParameter dilation_h dilation_w
  DataParameter shuffle
  EltwiseParameter.EltwiseOp STOCHASTIC_SUM
  ReductionParameter.ReductionOp TOPK
  ReductionParameter k
daijifeng001/caffe-rfcn rfcn
  type BoxAnnotatorOHEM PSROIPooling ROIPooling SmoothL1Loss
  LayerParameter box_annotator_ohem_param psroi_pooling_param roi_pooling_param smooth_l1_loss_param
  LossParameter.NormalizationMode PRE_FIXED
  LossParameter pre_fixed_normalizer
  DropoutParameter scale_train
hujie-frank/SENet
  type Axpy
soeaver/py-RFCN-priv rfcn
  type Axpy BoxAnnotatorOHEM BoxesObj ConvolutionDepthwise DeformableConvolution DeformablePSROIPooling DenseCRF
    DepthwiseConvolution FocalLoss FrcnnAnchorTarget FrcnnProposal FrcnnProposalTarget ImageSegData InnerProductBlob
    Interp LargeMarginInnerProduct MarginInnerProduct MaskPooling MaskResize PSROIPooling ROIAlign ROIMaskAlign
    ROIMaskPooling ROIPooling ROIWarping ReLUX SeLu SeLuDropout SegAccuracy SmoothL1Loss SmoothL1LossOHEM
    SoftmaxWithLossOHEM
  LayerParameter deformable_convolution_param dense_crf_param focal_loss_param interp_param
    largemargin_inner_product_param relux_param roi_mask_pooling_param roi_warping_param margin_inner_product_param
    mask_resize_param seg_accuracy_param selu_param selu_dropout_param roi_pooling_param psroi_pooling_param
    deformable_psroi_pooling_param inner_product_blob_param smooth_l1_loss_param box_annotator_ohem_param
    roi_align_param frcnn_anchor_target_param frcnn_proposal_param frcnn_proposal_target_param roi_mask_align_param
    boxes_obj_param
  TransformationParameter scale_factors crop_width crop_height
  LossParameter.NormalizationMode PRE_FIXED
  LossParameter pre_fixed_normalizer
  ImageDataParameter ignore_label label_type
  ImageDataParameter.LabelType NONE IMAGE PIXEL
  PoolingParameter ceil_mode
intel/caffe intel
  type AnnotatedData Axpy BoxAnnotatorOHEM BoxData DetectionEvaluate DetectionOutput EvalDetection MKLBatchNorm
    MnActivation MultiBoxLoss Normalize PSROIPooling Permute PriorBox ROIPooling RegionLoss Reorg SmoothL1Loss
    SmoothL1LossOHEM SoftmaxWithLossOHEM SpatialDropout VideoData
  FillerParameter scale
  NetParameter compile_net_state engine bn_stats_batch_size multinode
  SolverParameter eval_type ap_version show_per_class_result plateau_winsize stagelr stageiter disabled_update
    engine warmup_iter warmup_start_lr local_lr_auto local_gw_ratio test_offset
  LayerParameter annotated_data_param box_annotator_ohem_param detection_evaluate_param detection_output_param
    multibox_loss_param norm_param permute_param psroi_pooling_param prior_box_param roi_pooling_param
    smooth_l1_loss_param split_param video_data_param spatial_dropout_param engine multinode mn_activation_param
    mn_grad_compress_param quantization_param reorg_param region_loss_param eval_detection_param
  TransformationParameter crop_h crop_w resize_param noise_param distort_param expand_param emit_constraint
    random_resize_param random_aspect_ratio_param flow bgr2rgb pad
  LossParameter.NormalizationMode PRE_FIXED
  LossParameter pre_fixed_normalizer label_smoothing
  ConcatParameter per_fla_fuse engine
  ConcatParameter.Engine DEFAULT CAFFE MKL2017 MKLDNN
  BatchNormParameter.Engine DEFAULT CAFFE MKL2017 MKLDNN
  BatchNormParameter engine use_weight_bias bias_term filler bias_filler stats_batch_size relu
  ConvolutionParameter.Engine MKL2017 MKLDNN
  ConvolutionParameter relu negative_slope conv_algorithm coeff fusion_type
  ConvolutionParameter.FusionType NONE_FUSION SUM_FUSION
  DataParameter shuffle side
  EltwiseParameter.Engine DEFAULT CAFFE MKL2017 MKLDNN
  EltwiseParameter engine
  ImageDataParameter min_height min_width
  InnerProductParameter.Engine DEFAULT CAFFE CUDNN MKLDNN
  InnerProductParameter engine relu negative_slope
  LRNParameter.Engine MKL2017 MKLDNN
  PoolingParameter pad_3d kernel_size_3d stride_3d avg_include_pad axis
  PoolingParameter.Engine MKL2017 MKLDNN
  ReLUParameter.Engine MKL2017 MKLDNN
  ReLUParameter fuse
  ReshapeParameter pixelshuffler
NVIDIA/caffe nvidia
  type AnnotatedData Axpy DetectNetTransformation DetectionEvaluate DetectionOutput L1Loss MultiBoxLoss Normalize
    Permute PriorBox SmoothL1Loss TRT VideoData
  Datum record_id
  NetParameter default_forward_type default_backward_type default_forward_math default_backward_math
    global_grad_scale global_grad_scale_adaptive default_conv_algos_override reduce_buckets
    default_cudnn_math_override eltwise_mem_sharing
  SolverParameter eval_type ap_version show_per_class_result rampup_interval rampup_lr min_lr momentum_policy
    max_momentum momentum_power larc larc_policy larc_eta larc_turbo weight_decay_policy weight_decay_power
    max_weight_decay plateau_winsize solver_data_type store_blobs_in_old_format test_and_snapshot_last_epochs
  SolverParameter.SolverType SAG
  LayerParameter forward_type backward_type forward_math backward_math debug cudnn_math_override
    annotated_data_param detection_evaluate_param detection_output_param multibox_loss_param norm_param
    permute_param prior_box_param video_data_param trt_param detectnet_groundtruth_param
    detectnet_augmentation_param
  TransformationParameter.InterpolationAlgo INTER_NEAREST INTER_LINEAR INTER_CUBIC INTER_AREA
  TransformationParameter img_rand_resize_lower img_rand_resize_upper rand_resize_ratio_lower
    rand_resize_ratio_upper vertical_stretch_lower vertical_stretch_upper horizontal_stretch_lower
    horizontal_stretch_upper interpolation_algo_down interpolation_algo_up allow_upscale forward_packing crop_h
    crop_w use_gpu_transform random_seed display num_labels resize_param noise_param distort_param expand_param
    emit_constraint
  LossParameter label_smoothing
  BatchNormParameter scale_filler bias_filler scale_bias engine
  BatchNormParameter.Engine DEFAULT CAFFE CUDNN
  ConvolutionParameter.CuDNNConvolutionAlgorithmSeeker GET FINDEX
  ConvolutionParameter cudnn_convolution_algo_seeker conv_algos_override
  DataParameter threads parser_threads cache shuffle precache
  DropoutParameter.Engine DEFAULT CAFFE CUDNN
  DropoutParameter engine random_seed
  ELUParameter lambda
  ImageDataParameter short_side threads cache precache dataset_share_per_node
  PoolingParameter torch_pooling
eric612/MobileNet-YOLO yolo
  type AnnotatedData AssistedExcitation Axpy DepthwiseConvolution DetectionEvaluate DetectionOutput GaussianYolov3
    LaneData MultiBoxLoss Normalize Permute PriorBox ReLU6 RegionLoss Reorg SegmentationEvaluate SmoothL1Loss
    Upsample YoloDetectionOutput YoloSeg Yolov3 Yolov3DetectionOutput
  Datum seg_label
  SolverParameter eval_type ap_version show_per_class_result stagelr stageiter plateau_winsize
  LayerParameter region_loss_param yolov3_param yolo_seg_param annotated_data_param detection_output_param
    detection_evaluate_param segmentation_evaluate_param yolo_detection_output_param yolov3_detection_output_param
    multibox_loss_param norm_param permute_param prior_box_param relu6_param reorg_param upsample_param
  TransformationParameter crop_h crop_w resize_param noise_param distort_param expand_param emit_constraint
    enable_classf_aug min_scaling_factor max_scaling_factor max_rotation_angle contrast_brightness_adjustment
    smooth_filtering min_contrast max_contrast max_brightness_shift max_smooth max_color_shift min_side_min
    min_side_max min_side apply_probability debug_params cvt_bgr2rgb
  AnnotatedDataParameter yolo_data_type yolo_data_jitter train_diffcult single_class seg_scales seg_resize_width
    seg_resize_height difficult_label_warmup
ydwen/caffe-face
  type CenterLoss
  LayerParameter center_loss_param
s9xie/hed
  type ImageLabelmapData
happynear/caffe-windows normface
  type Arccos Axpy BN BatchContrastiveLoss CenterLoss ChannelScale ConfidencePenaltyLoss CorrelationLoss Cosine
    FCNAccuracy Flip FocalLoss GeneralContrastiveLoss GeneralTripletLoss GlobalLSEMargin Gram Hotspot InnerDistance
    Insanity LabelSpecificAdd LargeMarginInnerProduct Local MarginInnerProduct MovingNormalize MultiLabelImageData
    NCALoss Noise Normalize PSROIPooling Pairwise Permute PredictBox Proposal ROIPooling Resize Slope SmoothL1Loss
    SoftContrastiveLoss SoftTruncation SubRegion Transformer TripletLoss Truncation
  FillerParameter alpha
  SolverParameter clamp_weights_lower clamp_weights_upper clip_weights
  LayerParameter bn_param local_param insanity_param triplet_loss_param roi_pooling_param eltwise_affine_param
    sub_region_param noise_param hotspot_param predict_box_param mil_data_param mil_param fcn_data_param
    center_loss_param flip_param inner_distance_param normalize_param general_contrastive_loss_param
    soft_contrastive_loss_param general_triplet_loss_param soft_truncation_param proposal_param psroi_pooling_param
    pairwise_param smoothl1_param batch_contrastive_loss_param permute_param truncation_param nca_param
    largemargin_inner_product_param label_specific_rescale_param infimum_loss_param ordinal_regression_loss_param
    resize_param margin_inner_product_param feature_decay_loss_param confidence_penalty_loss_param focal_loss_param
    label_specific_margin_param channel_scale_param label_specific_affine_param label_specific_hard_margin_param
    label_specific_add_param
  TransformationParameter crop_h crop_w center_crop erase_ratio scale_min scale_max aspect_min aspect_max
  AccuracyParameter min_is_better
  BatchNormParameter disable_mean disable_variance scale_filler bias_filler engine
  BatchNormParameter.Engine DEFAULT CAFFE CUDNN
  ConvolutionParameter.CuDNNConvolutionAlgorithmSeeker GET FINDEX
  ConvolutionParameter cudnn_convolution_algo_seeker shape_offset
  DropoutParameter sqrt_scale
  EltwiseParameter.EltwiseOp SORT
  ImageDataParameter face_transform max_shear_ratio max_aspect_ratio max_rotate_angle min_random_scale
    max_random_scale max_random_shift face_mirror face_point_num balance_class balance_by label_cut_start
    label_cut_end
  InnerProductParameter normalize
  MemoryDataParameter transpose
  ParameterParameter blob_filler
  PoolingParameter.PoolMethod DEF DEF_ALL DEF_ALL2 DEF_ALL3 DEF_ALL4 LOWRES
  PoolingParameter blobs_lr blobs_a_min
  ScaleParameter min_value max_value
  SoftmaxParameter hard_ratio class_weight hard_mining_label cutting_point normalize_type label_smooth_factor
cdmh/deeplab-public-ver2
  type AdaptiveBiasChannel BiasChannel DenseCRF DomainTransform DomainTransformForwardOnly ImageSegData Interp
    MatRead MatWrite SegAccuracy SpatialProduct UniqueLabel
  LayerParameter adaptive_bias_channel_param bias_channel_param dense_crf_param domain_transform_param interp_param
    mat_read_param mat_write_param seg_accuracy_param unique_label_param
  TransformationParameter scale_factors crop_width crop_height
  BatchNormParameter update_global_stats
  ImageDataParameter ignore_label label_type
  ImageDataParameter.LabelType NONE IMAGE PIXEL
lmb-freiburg/flownet2 flownet
  type Accum BlackAugmentation ChannelNorm Correlation Correlation1D CustomData DataAugmentation DisparityData
    Downsample FLOWriter FloatReader FloatWriter FlowAugmentation FlowWarp GenerateAugmentationParameters ImgReader
    ImgWriter L1Loss LpqLoss Mean NegReLU PFMWriter Resample
  FillerParameter diag_val
  LayerParameter coeff_schedule_param augmentation_param correlation_param l1_loss_param writer_param reader_param
    mean_param resample_param downsample_param lpq_loss_param flow_warp_param accum_param black_augmentation_param
    reshape_every_iter
  DataParameter.CHANNELENCODING UINT8 UINT16FLOW BOOL1
  DataParameter.RANDPERMORDER FIRST_PERMUTE_THEN_RANGE FIRST_RANGE_THEN_PERMUTE
  DataParameter disk_reader_threads huge_video_dataset limit_samples preselection_file preselection_label
    range_start range_end rand_permute rand_permute_order rand_permute_seed slice_point encoding verbose subtract
    permute_every_iter block_size
foss-for-synopsys-dwc-arc-processors/synopsys-caffe synopsys
  type Add BatchToSpaceND DepthToSpace HardSwish ICNetSubgraph Mish Mul Pad Pooling3D ResizeBilinear
    Proposal ResizeNearestNeighbor Reverse SpaceToBatchND Squeeze UpsampleDarknet YoloV2Loss YoloV3Loss
  BNParameter icnet
  BatchNormParameter add_eps_before_sqrt
  ConvolutionParameter pad_l pad_r pad_t pad_b
  DataParameter random
  DetectionOutputParameter nbottom no_permute objectness_score
  DistortionParameter exposure_lower exposure_upper
  LayerParameter squeeze_param mul_param batch_to_space_nd_param depth_to_space_param pad_param pooling3d_param
    resize_bilinear_param resize_nearest_neighbor_param reverse_param space_to_batch_nd_param upsample_darknet_param
    yolo_v2_loss_param yolo_v3_loss_param
  MultiBoxLossParameter objectness_score
  PoolingParameter pad_l pad_r pad_t pad_b pad_type
  PriorBoxParameter tf yx_order
  ProposalParameter anchor_base_size anchor_scale anchor_ratio max_rois rpn_min_size rpn_nms_thresh
  ResizeParameter jitter
  TransformationParameter caffe_yolo
  PoolingParameter.PoolMethod AVE_EXC_PAD AVE_TF
  ReLUParameter relu6
  ReshapeParameter pixelshuffler
zhaoweicai/mscnn mscnn
  type BboxAccuracy BoxOutput DecodeBBox DetectionAccuracy DetectionLoss ImageGtData ProposalTarget ROIAlign ROIPooling
    SmoothL1Loss
  LayerParameter bbox_reg_param box_output_param decode_bbox_param detection_accuracy_param detection_loss_param
    image_gt_data_param proposal_target_param
  ROIPoolingParameter pad_ratio
zhaoweicai/cascade-rcnn cascade
  type BboxAccuracy BoxGroupOutput DecodeBBox DetectionData DetectionEvaluate DetectionGroupAccuracy
    DetectionGroupLoss EvalData FrcnnOutput HardMining ProposalTarget ROIAlign ScaleRoute SmoothL1Loss
  LayerParameter bbox_reg_param box_group_output_param decode_bbox_param detection_data_param
    detection_group_accuracy_param detection_group_loss_param eval_data_param frcnn_output_param hard_mining_param
    proposal_target_param scale_route_param
  ProposalTargetParameter append_gtbox bbox_thr_hg bbox_thr_lw pickup_discard
  ROIPoolingParameter pad_ratio
sanghoon/caffe pvanet
  type Proposal ROIPooling SmoothL1Loss
  LayerParameter proposal_param
jolibrain/caffe deepdetect
  type ContinuationIndicator CtcLoss DiceCoefLoss LabelsequenceAccuracy Reverse SparseData SparseInnerProduct
  DetectionOutputParameter objectness_score
  DistortionParameter all_effects brightness contrast hue prob random_order saturation
  LayerParameter continuation_indicator_param ctc_loss_param labelsequence_accuracy_param reverse_param
  MultiBoxLossParameter objectness_score
  NoiseParameter all_effects
  NonMaximumSuppressionParameter soft_nms theta
  TransformationParameter geometry_param
facebook/C3D c3d
  type Convolution3D Deconvolution3D DownSampling Pooling3D VideoSegmentationData VideoWithVoxelTruthData
    VoxelCustomLoss VoxelSoftmaxWithLoss
  ConvolutionParameter kernel_depth temporal_pad temporal_stride
  ImageDataParameter is_flow new_length num_truth_channels show_data truth_scale use_image use_temporal_jitter
  LayerParameter convolution3d_param pooling3d_param
  PoolingParameter kernel_depth temporal_stride
lim0606/ndsb
  type AvgProbs AvgProbsMultiSources ImageDataAffine ImageDataMultipleInference
  LayerParameter avg_probs_param image_data_affine_param image_data_multi_infer_param
  V1LayerParameter avg_probs_param image_data_affine_param image_data_multi_infer_param
  TransformationParameter affine_param
wenwei202/caffe
  type Sparsify
  LayerParameter sparsify_param
  ParamSpec force_mult
gklz1982/caffe-yolov2
  type BoxData DetectionLoss EvalDetection RegionLoss Reorg
  DataParameter side
  DetectionOutputParameter biases coords label_map_file nms_threshold num_box side
quhezheng/caffe_yolo_v2
  type Region
  DataParameter num_label side
  DetectionOutputParameter biases classes coords label_map_file nms_threshold num_box side
  LayerParameter region_param
  RegionLossParameter num_label
sfzhang15/RefineDet refinedet
  type DetectionOutput MultiBoxLoss
  DetectionOutputParameter objectness_score
  MultiBoxLossParameter objectness_score
MhLiao/TextBoxes_plusplus
  type CTCGreedyDecoder Reverse
  DetectionOutputParameter use_polygon
  LayerParameter ctc_decoder_param ctc_loss_param reverse_param
  PriorBoxParameter denser_prior_boxes
kmaninis/OSVOS-caffe
  type SigmoidCrossEntropyBalanceLoss
xmfbit/warpctc-caffe
  type ContinuationIndicator CtcLoss LabelsequenceAccuracy
  ContinuationIndicatorParameter batch_size
  LayerParameter continuation_indicator_param ctc_loss_param labelsequence_accuracy_param
junhyukoh/caffe-lstm
  type Lstm
  LayerParameter lstm_param
tianzhi0549/CTPN
  type Lstm Reverse Transpose
  LayerParameter lstm_param reverse_param transpose_param
senlinuc/caffe_ocr
  type CTCGreedyDecoder DenseBlock Interp Lstm Reverse ReverseTime SoftmaxWithLossMultiLabel Transpose WarpCTCLoss
  LayerParameter ctc_decoder_param ctc_loss_param denseblock_param lstm_param reverse_param reverse_time_param
    transpose_param
shenwei1231/caffe-LDLForests
  type MAE NeuralDecisionDLForestWithLoss NeuralDecisionForest
  LayerParameter neural_decision_forest_param
Robert0812/deepsaldet
  WindowDataParameter shuffle
torrvision/caffe
  type MultiStageMeanfield
  LayerParameter multi_stage_meanfield_param
Cysu/caffe
  type GuidedDropout
  LayerParameter guided_dropout_param
kevinlin311tw/Caffe-DeepBinaryCode
  type K1_EuclideanLoss K2_EuclideanLoss
HyeonwooNoh/caffe deconvnet
  type BN EltwiseAccuracy ImageSegData Unpooling WindowSegData
  LayerParameter bn_param eltwise_accuracy_param unpooling_param
  V1LayerParameter bn_param eltwise_accuracy_param unpooling_param
TheLegendAli/CCVL
  type ImageSegData Interp MatRead MatWrite Padding SegAccuracy
  LayerParameter interp_param mat_write_param padding_param seg_accuracy_param softmaxloss_param
  ConvolutionParameter hole hole_h hole_w
TheLegendAli/DeepLab-Context
  ImageDataParameter has_label
BVLC/caffe#3057
  PoolingParameter ceil_mode
lim0606/caffe-googlenet-bn
  DataParameter shuffle
cdmh/deeplab-public
  ConvolutionParameter hole
  PoolingParameter hole
farmingyard/ShuffleNet
  type ShuffleChannel
  LayerParameter shuffle_channel_param
happynear/NormFace normface
  type Normalize
  LayerParameter normalize_param
SeokjuLee/VPGNet
  type DriveData Tiling
  LayerParameter tiling_param drive_data_param
openvinotoolkit/open_model_zoo
  type PriorBoxClustered
  PriorBoxParameter height width
{LABS}"""

# Names with which forks mean different things: they do not tell which dialect a net speaks.
AMBIGUOUS = """
several
  type BN BboxAccuracy DecodeBBox DetectionEvaluate L1Loss Normalize ProposalTarget ROIAlign Upsample VideoData
  LayerParameter bbox_reg_param bn_param decode_bbox_param detection_evaluate_param proposal_target_param
    upsample_param video_data_param
"""

# Where the other layer types come from.
ORIGINS = """
BVLC Caffe 1.0
  type AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
    Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss
    PReLU Parameter Pooling Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss
    Silence Slice Softmax SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData
caffe-sds
  type BoxUpsample CFMPooling LocallyConnected LocallyConnectedWithLoss PickItems PickSlice RepMat SimpleUpsample Sum
    SuperpixelProjection Upsample
this package
  type AlignMaps DeadUnits ExplainedVariance ForeignNet PairedImageData
"""

# Where layers that nets name as written in Python come from, by what stands before the colon of their meaning.
PYTHON = """
enet TimoSaemann/ENet
fast-rcnn s-gupta/fast-rcnn
faster-rcnn rbgirshick/py-faster-rcnn
fcn shelhamer/fcn.berkeleyvision.org
detectnet NVIDIA/caffe
synopsys foss-for-synopsys-dwc-arc-processors/synopsys-caffe
"""
