"""Configurations for the registry tests: synopsys.py, and what Pooling has of synopsys-caffe."""

from cases_ssd import PRIORS

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
PAD = (
    "python_param { module: \"pad\" layer: \"PadTensor\" param_str: \"{'pad_t': 1, 'pad_b': 2, 'pad_l': 0, 'pad_r': 3, "
    "'pad_mode': '%s'}\" }"
)

CASES = {
    "Convolution": [
        (
            f"convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 pad_b: 1 pad_r: 1 {FILLERS} }}",
            [(2, 2, 6, 5)],
            {},
        ),
        (
            "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 group: 2 dilation: 2 pad_t: 3 pad_l: 1 "
            f"bias_term: false {FILLERS} }}",
            [(1, 2, 3, 4), (1, 2, 3, 4)],
            {"tops": 2},
        ),
    ],
    "Pooling": [
        ("pooling_param { kernel_size: 3 stride: 2 pad_b: 1 pad_r: 1 }", [(2, 3, 6, 6)], {}),
        ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2 }", [(2, 3, 6, 7)], {}),
        ("pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1 }", [(2, 3, 6, 7)], {}),
        ("pooling_param { pool: AVE_EXC_PAD kernel_size: 3 pad_b: 2 pad_l: 1 }", [(2, 3, 5, 4)], {}),
        ("pooling_param { pool: AVE_TF kernel_size: 3 pad: 1 }", [(2, 3, 5, 4)], {}),
        ("pooling_param { kernel_size: 2 pad_type: 1 }", [(2, 3, 5, 4)], {}),
        ("pooling_param { pool: AVE kernel_size: 4 stride: 3 pad_type: 1 }", [(2, 3, 7, 5)], {}),
        ("pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad_type: 1 }", [(1, 2, 4, 5)], {}),
        ("pooling_param { kernel_size: 3 stride: 2 pad_type: 0 }", [(2, 3, 6, 6)], {}),
    ],
    "ReLU": [("relu_param { relu6: true }", [(2, 3, 2)], {}), ("relu_param { relu6: false }", [(2, 3)], {})],
    "BN": [
        ("bn_param { icnet: true frozen: true slope_filler { value: 2 } }", [(2, 3, 2, 4)], {}),
        ("bn_param { icnet: false bn_mode: INFERENCE scale_filler { value: 2 } }", [(2, 3, 2, 4)], {}),
    ],
    "ICNetSubgraph": [("", [(1, 2, 6, 9)], {}), ("", [(1, 1, 20, 34)], {})],
    "PriorBox": [
        (
            "prior_box_param { tf: true yx_order: true min_size: 60 max_size: 80 aspect_ratio: 2 offset: 0.25 }",
            [(2, 3, 2, 3), (2, 3, 120, 200)],
            {},
        ),
        ("prior_box_param { tf: false min_size: 6 max_size: 8 img_size: 30 }", [(1, 2, 3, 2)], {}),
    ],
    "DetectionOutput": [
        (
            "detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 4 no_permute: true nbottom: 2 "
            "confidence_threshold: 0.01 nms_param { nms_threshold: 0.5 top_k: 6 } }",
            [(2, 3, 2, 2), (2, 3, 1, 1), (2, 8, 1, 2), (2, 4, 1, 1), (1, 2, 20)],
            {"values": {4: PRIORS}},
        ),
        (
            "detection_output_param { num_classes: 2 share_location: false no_permute: true nbottom: 1 "
            "nms_param { nms_threshold: 0.5 } background_label_id: -1 }",
            [(1, 2, 1, 5), (1, 8, 5, 1), (1, 2, 20)],
            {"values": {2: PRIORS}},
        ),
    ],
    "Python": [
        ('python_param { module: "yolov2" layer: "darknet_reorg" }', [(2, 4, 4, 2)], {"gradcheck": False}),
        (PAD % "constant", [(2, 3, 4, 3)], {"gradcheck": False}),
        (PAD % "edge", [(2, 3, 2, 1)], {"gradcheck": False}),
        (PAD % "reflect", [(1, 2, 3, 4)], {"gradcheck": False}),
    ],
    "Squeeze": [
        ("squeeze_param { axis: 1 axis: -1 }", [(2, 1, 3, 1)], {}),
        ("", [(2, 1, 3, 1)], {}),
        ("", [(2, 3)], {}),
    ],
    "BatchNorm": [
        ("batch_norm_param { add_eps_before_sqrt: false eps: 0.1 }", [(2, 3, 2, 4)], {}),
        ("batch_norm_param { add_eps_before_sqrt: true eps: 0.1 }", [(2, 3)], {}),
        # with the batch's statistics the gradient is the fork's
        (
            "batch_norm_param { add_eps_before_sqrt: false eps: 0.1 use_global_stats: false }",
            [(2, 3, 4)],
            {"gradcheck": False},
        ),
    ],
    "HardSwish": [("", [(2, 3, 2)], {})],
    "Add": [("", [(2, 3, 2, 4), (2, 3, 1, 1)], {}), ("", [(3, 1), (2, 3, 2)], {}), ("", [(2, 3), ()], {})],
    "Mul": [
        ("", [(2, 3, 2, 4), (2, 3, 1, 1)], {}),
        ("", [(3, 1), (2, 3, 2)], {}),
        ("mul_param { mul_shape: 3 mul_shape: 1 }", [(2, 3, 2)], {}),
    ],
}
