"""Configurations for the registry tests: linear.py."""

FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'

CASES = {
    "InnerProduct": [
        (f"inner_product_param {{ num_output: 4 {FILL} }}", [(2, 3, 2, 2)], {}),
        (f"inner_product_param {{ num_output: 3 transpose: true {FILL} }}", [(3, 5)], {}),
        (f"inner_product_param {{ num_output: 3 axis: 2 {FILL} }}", [(2, 3, 2, 2)], {}),
        (f"inner_product_param {{ num_output: 3 axis: -1 transpose: true bias_term: false {FILL} }}", [(2, 2, 4)], {}),
        (f"inner_product_param {{ num_output: 3 axis: 0 {FILL} }}", [(2, 3)], {}),
    ],
    "Embed": [
        (f"embed_param {{ num_output: 3 input_dim: 5 {FILL} }}", [(2, 4)], {"labels": {0: 5}}),
        (f"embed_param {{ num_output: 2 input_dim: 4 bias_term: false {FILL} }}", [(3,)], {"labels": {0: 4}}),
    ],
}
