"""Configurations for the registry tests: pooling.py."""

CASES = {
    "Pooling": [
        ("pooling_param { kernel_size: 3 stride: 2 }", [(2, 3, 8, 6)], {}),
        ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", [(2, 3, 6, 7)], {}),
        ("pooling_param { kernel_size: 3 stride: 3 pad: 2 }", [(1, 2, 5, 7)], {}),
        ("pooling_param { pool: AVE kernel_size: 3 stride: 3 pad: 2 round_mode: FLOOR }", [(1, 2, 6, 7)], {}),
        ("pooling_param { pool: AVE global_pooling: true }", [(2, 3, 4, 5)], {}),
    ],
    "SPP": [
        ("spp_param { pyramid_height: 3 }", [(2, 2, 9, 7)], {}),
        ("spp_param { pyramid_height: 1 pool: AVE }", [(2, 2, 4, 5)], {}),
    ],
}
