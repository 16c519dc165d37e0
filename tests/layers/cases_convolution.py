"""Configurations for the registry tests: convolution.py."""

FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'

CASES = {
    "Convolution": [
        (f"convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 stride: 2 group: 2 {FILL} }}", [(2, 4, 7, 6)], {}),
        (f"convolution_param {{ num_output: 3 kernel_h: 1 kernel_w: 4 pad_w: 2 pad_h: 0 {FILL} }}", [(1, 2, 5, 6)], {}),
        (f"convolution_param {{ num_output: 2 kernel_size: 2 dilation: 2 bias_term: false {FILL} }}", [(2, 2, 5)], {}),
        (f"convolution_param {{ num_output: 2 kernel_size: 2 axis: 2 {FILL} }}", [(2, 2, 3, 4, 3)], {}),
        (f"convolution_param {{ num_output: 2 kernel_size: 3 stride: 2 {FILL} }}", [(1, 2, 2, 2)], {}),
    ],
    "Deconvolution": [
        (f"convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2 {FILL} }}", [(2, 4, 3, 4)], {}),
        (f"convolution_param {{ num_output: 2 kernel_size: 2 dilation: 2 {FILL} }}", [(1, 3, 4, 3)], {}),
        (f"convolution_param {{ num_output: 2 kernel_size: 3 {FILL} }}", [(2, 2, 3, 2, 2)], {}),
    ],
    "Im2col": [
        ("convolution_param { kernel_size: 3 pad: 1 stride: 2 }", [(2, 2, 5, 4)], {}),
        ("convolution_param { kernel_size: 2 dilation: 2 }", [(1, 3, 6)], {}),
    ],
}
