"""Configurations for the registry tests: intel.py, eval_detection.py, and what others have of intel/caffe."""

BIASES = " ".join(f"biases: {value}" for value in (1.3, 1.7, 3.2, 4.0, 5.1, 8.1, 9.5, 4.8, 11.2, 10.0))
ANNOTATED = [0, 1, 0, 0.1, 0.1, 0.6, 0.7, 0, 1, 2, 0, 0.2, 0.3, 0.9, 0.8, 0, -1, 0, 0, 0, 0, 0, 0, 0]

CASES = {
    "BatchNorm": [
        ("batch_norm_param { stats_batch_size: 2 use_global_stats: true eps: 0.5 }", [(4, 3, 2, 2)], {}),
        ("batch_norm_param { stats_batch_size: 2 use_weight_bias: true eps: 0.5 }", [(4, 3)], {}),
    ],
    "Concat": [
        ("concat_param { per_fla_fuse: true }", [(2, 3, 2, 4), (2, 5, 1, 3)], {}),
        ("concat_param { per_fla_fuse: true }", [(2, 3, 2, 4)], {}),
        ("concat_param { per_fla_fuse: true }", [(2, 3), (2, 1)], {}),
        ("concat_param { per_fla_fuse: true axis: 2 }", [(2, 3, 2, 4), (2, 3, 1, 4)], {}),
    ],
    "EvalDetection": [
        (
            f"eval_detection_param {{ side: 3 num_class: 2 num_object: 5 nms: 0.45 {BIASES} }}",
            [(2, 35, 3, 3), (1, 1, 3, 8)],
            {"values": {1: ANNOTATED}, "gradcheck": False},
        ),
    ],
    "PReLU": [("prelu_param { filler { value: 0.3 } }", [(2, 3, 2, 2, 2)], {})],
    "Reshape": [("reshape_param { pixelshuffler: 2 }", [(2, 12, 2, 3)], {})],
}
