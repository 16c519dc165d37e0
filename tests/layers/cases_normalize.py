"""Configurations for the registry tests: normalize.py."""

FILLER = "scale_filler { value: 20 }"

CASES = {
    "Normalize": [
        ("", [(2, 3, 2, 4)], {}),
        (f"norm_param {{ across_spatial: false {FILLER} }}", [(2, 3, 2, 2)], {}),
        (f"norm_param {{ {FILLER} eps: 0.5 }}", [(3, 4)], {}),
        # with different scales the gradient is Caffe's and not the derivative
        (
            "norm_param { across_spatial: false channel_shared: false scale_filler { type: 'gaussian' } }",
            [(2, 3, 2, 2)],
            {"gradcheck": False},
        ),
        ("norm_param { channel_shared: false scale_filler { type: 'gaussian' } }", [(2, 3)], {"gradcheck": False}),
    ],
}
