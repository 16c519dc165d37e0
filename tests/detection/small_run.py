"""A small detector on the forks' small tree: what its training needs, in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection"
FILLERS = 'weight_filler { type: "gaussian" std: 0.05 } bias_filler { type: "constant" value: 0.1 }'
LAYERS = """name: "small"
layer {{ name: "data" type: "Python" top: "data" {data_1} top: "rois" top: "labels" {targets}
  python_param {{ module: "roi_data_layer.layer_pi" layer: "RoIDataLayerPi" param_str: "{param_str}" }} }}
{conv_1}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 5 stride: 4 pad: 2 {fillers} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 }} }}
layer {{ name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6"
  inner_product_param {{ num_output: 16 {fillers} }} }}
layer {{ name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" dropout_param {{ dropout_ratio: 0.5 }} }}
layer {{ name: "cls_score" type: "InnerProduct" bottom: "fc6" top: "cls_score"
  inner_product_param {{ num_output: {labels} {fillers} }} }}
{fusion}
layer {{ name: "loss_cls" type: "SoftmaxWithLoss" bottom: "{scores}" bottom: "labels" top: "loss_cls" }}
{regression}
"""
REGRESSION = """
layer {{ name: "bbox_pred" type: "InnerProduct" bottom: "fc6" top: "bbox_pred"
  inner_product_param {{ num_output: {boxes} {fillers} }} }}
layer {{ name: "loss_bbox" type: "SmoothL1Loss" bottom: "bbox_pred" bottom: "bbox_targets" bottom: "bbox_loss_weights"
  top: "loss_bbox" }}
"""
FUSION = """layer { name: "sum" type: "Eltwise" bottom: "cls_score" bottom: "cls_score" top: "fused_score"
  eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 } }
"""
SOLVER = """net: "train.prototxt" base_lr: {rate} lr_policy: "step" stepsize: 9 gamma: 0.5 momentum: 0.9
weight_decay: 0.0005 display: 1 average_loss: 5 iter_size: 2 snapshot_prefix: "fast_rcnn" {more}
"""
CONFIG = """EXP_DIR: small/run
TRAIN:
  SCALES: !!python/tuple [48, 64]
  MAX_SIZE: 140
  BATCH_SIZE: 16
  SNAPSHOT_ITERS: 5
  BG_THRESH_LO: 0.0
"""


def write_run(
    folder: Path,
    labels: int = 20,
    boxes: int | None = None,
    fillers: str = FILLERS,
    param_str: str = "--num_classes 20 --num_data 1",
    regression: bool = True,
    fused: bool = False,
    solver: dict[str, object] | None = None,
) -> list[str]:
    """Write the tree, the net, the solver and the options into a folder; the words of train_net.py to run there."""
    if not (folder / "data").exists():
        shutil.copytree(FOLDER / "tree" / "data", folder / "data")
    two = "--num_data 2" in param_str
    heads = REGRESSION.format(boxes=80 if boxes is None else boxes, fillers=fillers)
    text = LAYERS.format(
        data_1='top: "data_1"' if two else "",
        conv_1='layer { name: "silence" type: "Silence" bottom: "data_1" }' if two else "",
        targets='top: "bbox_targets" top: "bbox_loss_weights"' if regression else "",
        param_str=param_str,
        fillers=fillers,
        labels=labels,
        fusion=FUSION if fused else "",
        scores="fused_score" if fused else "cls_score",
        regression=heads if regression else "",
    )
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(SOLVER.format(**{"rate": 0.0002, "more": "", **(solver or {})}))
    (folder / "config.yml").write_text(CONFIG)
    return ["--solver", "solver.prototxt", "--imdb", "nyud2_hha_2015_trainval", "--cfg", "config.yml", "--gpu", "-1"]
