"""More of the table in ``forks_data.py``: forks that one group kept for one paper."""

__all__ = ["LABS"]

LABS = """\
gidariss/caffe_LocNet locnet
  type RegionPooling SigmoidCrossEntropyLossWeighted
  LayerParameter region_pooling_param
mysee1989/PG-CNN
  type MultiLabelImageData MultiROIPooling
  LayerParameter multi_label_image_data_param multi_roi_pooling_param
Ravi-Garg/Unsupervised_Depth_Estimation
  type AbsLoss Warping
qxcv/caffe
  type ManhattanLoss
ctensmeyer/caffe
  type BilinearInterpolation
NVlabs/PWC-Net
  type Warp
"""
