"""Configurations for the registry tests: unpooling.py."""

import numpy as np

_APART = np.random.default_rng(0).permuted(np.tile(np.arange(24.0), (6, 1)), axis=1)[:, :6].tolist()

CASES = {
    "Upsample": [
        ("upsample_param { scale: 2 }", [(2, 3, 2, 3), (2, 3, 2, 3)], {"values": {1: _APART}}),
        ("upsample_param { upsample_h: 4 upsample_w: 7 }", [(2, 3, 2, 3), (2, 3, 2, 3)], {"values": {1: _APART}}),
        (
            "upsample_param { scale_h: 3 scale_w: 2 pad_out_w: true }",
            [(2, 3, 3, 2), (2, 3, 3, 2)],
            {"values": {1: _APART}},
        ),
        ("upsample_param { scale: 3 }", [(2, 3, 2, 3)], {}),
    ],
}
