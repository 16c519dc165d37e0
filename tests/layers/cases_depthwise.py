"""Configurations for the registry tests: depthwise.py."""

FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'

CASES = {
    "DepthwiseConvolution": [
        (f"convolution_param {{ num_output: 4 group: 4 kernel_size: 3 pad: 1 stride: 2 {FILL} }}", [(2, 4, 7, 6)], {}),
        (f"convolution_param {{ num_output: 3 group: 3 kernel_size: 2 bias_term: false {FILL} }}", [(1, 3, 4, 3)], {}),
    ],
    "ConvolutionDepthwise": [
        (f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {FILL} }}", [(2, 4, 5, 4)], {}),
        (f"convolution_param {{ kernel_h: 2 kernel_w: 3 dilation: 2 stride: 2 {FILL} }}", [(1, 3, 6, 7)], {}),
    ],
}
