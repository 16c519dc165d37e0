"""Configurations for the registry tests: synopsys.py, and what Pooling has of synopsys-caffe."""

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'

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
