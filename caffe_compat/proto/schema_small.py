"""Messages and fields of smaller forks, and of jolibrain/caffe (beniz/deepdetect's); see ``schema_forks.py``."""

__all__ = ["DEEPDETECT", "OCR", "PLANKTON", "POOLED_REGIONS", "REGIONS", "SEQUENCES", "SPARSE"]

# jolibrain/caffe: LayerParameter 157 to 159, DistortionParameter 1, 2, 4, 6, 8, 10, 12, 13, whose others are SSD's
DEEPDETECT = """
LayerParameter
  8004157 ctc_loss_param CtcLossParameter, 8004158 continuation_indicator_param ContinuationIndicatorParameter,
  8004159 labelsequence_accuracy_param LabelsequenceAccuracyParameter
CtcLossParameter
  1 alphabet_size uint32=0, 3 time_step uint32=0, 4 blank_label int32=0, 8000001 output_delay int32=0,
  8000002 blank_index int32=0, 8000003 preprocess_collapse_repeated bool=false,
  8000004 ctc_merge_repeated bool=true, 8000005 loss_calculation_t int32=0
SparseDatum
  1 size int32, 2 nnz int32=0, 3 indices int32*, 4 label float, 5 data float*
ContinuationIndicatorParameter
  1 time_step uint32=0, 2 axis int32=0, 8000002 batch_size uint32=0
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

# lim0606/ndsb: V1LayerParameter 43 to 45, TransformationParameter 6
PLANKTON = """
V1LayerParameter
  enum LayerType: IMAGE_DATA_AFFINE=1043 IMAGE_DATA_MULTIPLE_INFERENCE=1044 AVG_PROBS=1045 AVG_PROBS_MULTI_SOURCES=1046
  8000043 image_data_affine_param ImageDataAffineParameter,
  8000044 image_data_multi_infer_param ImageDataAffineParameter, 8000045 avg_probs_param AVGProbsParameter
LayerParameter
  8005043 image_data_affine_param ImageDataAffineParameter,
  8005044 image_data_multi_infer_param ImageDataAffineParameter, 8005045 avg_probs_param AVGProbsParameter
ImageDataAffineParameter
  1 source string, 2 scale float=1.0, 3 mean_file string, 4 batch_size uint32, 5 crop_size uint32=0,
  6 mirror bool=false, 7 rand_skip uint32=0, 8 shuffle bool=false, 9 new_size uint32=0, 11 is_color bool=true,
  12 root_folder string="", 13 multi_infer_size uint32=1
AVGProbsParameter
  1 multi_infer_size uint32=1
TransformationParameter
  8000041 affine_param AffineParameter
AffineParameter
  1 x_stretch_unirnd_range float=0.2, 2 y_stretch_unirnd_range float=0.2, 3 rotation_unirnd_range float=180.0,
  4 max_translation float=0.0, 5 background_color uint32=0
"""

# wenwei202/caffe: ParamSpec 6, and sparsify_param
SPARSE = """
LayerParameter
  8005047 sparsify_param SparsifyParameter
SparsifyParameter
  1 thre float=0.0, 2 coef float=0.0
ParamSpec
  8000006 force_mult float=0.0
"""

# tianzhi0549/CTPN: LayerParameter 140, 142, 143; junhyukoh/caffe-lstm has 201, senlinuc/caffe_ocr 8266711, 8266710, 160
SEQUENCES = """
LayerParameter
  8007140 lstm_param LSTMParameter, 8007142 transpose_param TransposeParameter, 8007143 reverse_param ReverseParameter
LSTMParameter
  1 num_output uint32=0, 2 clipping_threshold float=0.0, 3 weight_filler FillerParameter,
  4 bias_filler FillerParameter, 5 batch_size uint32=1
TransposeParameter
  1 dim int32*
ReverseParameter
  1 axis int32*
"""

# gklz1982/caffe-yolov2 and quhezheng/caffe_yolo_v2: DetectionOutputParameter 1 to 8 of YOLO
REGIONS = """
LayerParameter
  8005060 region_param RegionParameter
RegionParameter
  1 classes uint32=20, 2 coords uint32=4, 3 boxes_of_each_grid uint32=5, 4 softmax bool=false, 5 anchors string
DetectionOutputParameter
  8000021 side uint32=13, 8000022 classes uint32=20, 8000023 num_box uint32=5, 8000024 coords uint32=4,
  8000026 nms_threshold float=0.45, 8000027 biases float*, 8000028 label_map_file string
"""

# senlinuc/caffe_ocr: LayerParameter 147, 158; its CTCLossParameter is CtcLossParameter 8000001 to 8000005
OCR = """
LayerParameter
  8007147 denseblock_param DenseBlockParameter, 8007158 ctc_decoder_param CTCDecoderParameter
CTCDecoderParameter
  1 blank_index int32=0, 2 ctc_merge_repeated bool=true
DenseBlockParameter
  1 numTransition int32=40, 2 initChannel int32=16, 3 growthRate int32=12, 4 pad_h int32=1, 5 pad_w int32=1,
  6 conv_verticalStride int32=1, 7 conv_horizentalStride int32=1, 8 filter_H int32=3, 9 filter_W int32=3,
  10 Filter_Filler FillerParameter, 11 BN_Scaler_Filler FillerParameter, 12 BN_Bias_Filler FillerParameter,
  15 gpuIdx int32=0, 16 use_dropout bool=false, 17 dropout_amount float=0.0, 18 use_BC bool=false,
  19 BC_ultra_space_efficient bool=false, 20 workspace_MB int32=8, 21 moving_average_fraction float=0.1
"""

# gidariss/caffe_LocNet: LayerParameter 140; mysee1989/PG-CNN: 8266713 and 15711
POOLED_REGIONS = """
LayerParameter
  8017140 region_pooling_param RegionPoolingParameter, 8017713 multi_roi_pooling_param MultiROIPoolingParameter,
  8017711 multi_label_image_data_param MultiLabelImageDataParameter
RegionPoolingParameter
  1 pooled_h uint32=0, 2 pooled_w uint32=0, 3 spatial_scale float=1.0, 4 offset float=6.0
MultiROIPoolingParameter
  1 pooled_h uint32=0, 2 pooled_w uint32=0, 3 spatial_scale float=1.0, 4 top_num uint32=1
MultiLabelImageDataParameter
  1 source string, 2 scale float=1.0, 3 mean_file string, 4 batch_size uint32=1, 5 crop_size uint32=0,
  6 mirror bool=false, 7 rand_skip uint32=0, 8 shuffle bool=false, 9 new_height uint32=0, 10 new_width uint32=0,
  11 is_color bool=true, 12 root_folder string="", 13 label_num uint32=28
"""
