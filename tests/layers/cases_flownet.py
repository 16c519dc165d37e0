"""Configurations for the registry tests: FlowNet2's layers."""

APART = {"gradcheck": False}  # the fork's gradient is none, or not the derivative
SUBTRACT = "correlation_type: SUBTRACT"

CASES = {
    "Correlation": [
        ("correlation_param { pad: 1 kernel_size: 1 max_displacement: 1 }", [(1, 2, 3, 4)] * 2, {}),
        (
            "correlation_param { pad: 2 kernel_size: 3 max_displacement: 2 stride_1: 2 stride_2: 2 }",
            [(1, 2, 4, 5)] * 2,
            {},
        ),
        (
            f"correlation_param {{ pad: 3 kernel_size: 3 max_displacement: 2 stride_2: 2 {SUBTRACT} }}",
            [(1, 1, 4, 3)] * 2,
            APART,
        ),
    ],
    "Correlation1D": [
        ("correlation_param { pad: 3 kernel_size: 1 max_displacement: 3 }", [(2, 3, 3, 5)] * 2, {}),
        (
            "correlation_param { pad: 4 kernel_size: 3 max_displacement: 3 single_direction: -1 stride_1: 2 }",
            [(1, 2, 5, 6)] * 2,
            {},
        ),
        (
            f"correlation_param {{ pad: 3 kernel_size: 1 max_displacement: 2 single_direction: 1 {SUBTRACT} }}",
            [(1, 2, 2, 6)] * 2,
            APART,
        ),
    ],
    "Eltwise": [("eltwise_param { coeff: 0.5 }", [(2, 3)], {"dialect": "flownet"})],
    "Warp": [
        ("", [(1, 2, 2, 2), (1, 2, 2, 2)], {"values": {1: [0.3, 0.4, 0.2, -0.7, 0.1, 0.6, -0.5, -0.8]}}),
        ("", [(2, 3, 4, 5), (2, 2, 4, 5)], {}),
    ],
    "FlowWarp": [
        ("", [(2, 3, 4, 5), (2, 2, 4, 5)], {}),
        ("", [(1, 1, 1, 3), (1, 2, 1, 3)], {}),
        (
            "flow_warp_param { fill_value: NOT_A_NUMBER }",
            [(1, 2, 2, 2), (1, 2, 2, 2)],
            {"values": {1: [0.3, 0.4, 0.2, 0.7, 0.1, 0.6, 0.5, 0.8]}},
        ),
    ],
    "ChannelNorm": [("", [(2, 3, 2, 4)], {}), ("", [(1, 1, 2, 2)], {})],
    "Resample": [
        ("resample_param { width: 9 height: 7 }", [(2, 3, 4, 5)], APART),
        ("resample_param { width: 3 height: 2 }", [(2, 3, 7, 8)], APART),
        ("resample_param { width: 3 height: 4 antialias: false type: CUBIC }", [(1, 2, 7, 5)], APART),
        ("resample_param { width: 11 height: 4 type: CUBIC }", [(1, 2, 7, 5)], APART),
        ("resample_param { type: NEAREST }", [(1, 2, 5, 6), (1, 1, 4, 8)], APART),
    ],
    "Downsample": [
        ("downsample_param { top_width: 3 top_height: 4 }", [(2, 2, 7, 8)], APART),
        ("", [(1, 2, 5, 6), (1, 1, 5, 6)], APART),
    ],
    "Accum": [
        ("accum_param { have_reference: true }", [(2, 2, 3, 4), (2, 1, 2, 2), (1, 1, 6, 7)], {}),
        ("accum_param { size_divisible_by: 4 }", [(1, 2, 3, 5), (1, 1, 5, 3)], {}),
        ("accum_param { top_height: 3 top_width: 9 }", [(1, 2, 4, 5)], {}),
    ],
    "DataAugmentation": [
        ("augmentation_param { recompute_mean: 10 mean_per_pixel: false }", [(2, 3, 2, 4)], {**APART, "onnx": False}),
        ("augmentation_param { mean: 0.1 mean: 0.2 mean: 0.3 mean_per_pixel: false }", [(2, 3, 2, 4)], APART),
        ("augmentation_param { augment_during_test: true }", [(2, 1, 2, 4)], APART),
    ],
    "Mean": [
        ("mean_param { operation: SUBTRACT value: 0.5 value: 2 }", [(2, 4, 2, 3), (1, 2, 1, 1)], {**APART, "tops": 2}),
        (
            "mean_param { operation: ADD value: 3 mean_scale: 2 input_scale: 0.5 output_scale: 4 }",
            [(1, 3, 2, 2)],
            APART,
        ),
    ],
    "LpqLoss": [
        ("lpq_loss_param { p: 2 q: 0.2 }", [(2, 3, 2, 2)] * 2, {"onnx": False}),
        ("lpq_loss_param { p: 0.8 q: 1 p_epsilon: 0.1 pq_episode_starts_at_iter: 0 }", [(1, 2, 2, 3)], {"onnx": False}),
    ],
    "L1Loss": [
        ("l1_loss_param { l2_per_location: true }", [(2, 3, 2, 4)] * 2, {"onnx": False}),
        ("l1_loss_param { normalize_by_num_entries: true }", [(2, 2, 2, 3)] * 2, {"onnx": False}),
        (
            "l1_loss_param { l2_per_location: true l2_prescale_by_channels: true plateau: 0.4 epsilon: 0.1 }",
            [(2, 2, 3, 3)],
            {"onnx": False},
        ),
    ],
}
