"""Configurations for the registry tests: interp.py."""

CASES = {
    "Interp": [
        ("interp_param { height: 7 width: 9 }", [(2, 3, 4, 5)], {}),
        ("interp_param { zoom_factor: 3 }", [(1, 2, 3, 4)], {}),
        ("interp_param { shrink_factor: 2 pad_beg: -1 pad_end: 0 }", [(2, 2, 8, 7)], {}),
        ("interp_param { shrink_factor: 2 zoom_factor: 4 pad_end: -2 }", [(1, 2, 9, 7)], {}),
        ("interp_param { height: 1 width: 2 }", [(2, 2, 4, 5)], {}),
        ("interp_param { use_blob_size: true pad_beg: -1 }", [(2, 2, 4, 5), (1, 3, 6, 7)], {}),
    ],
    "BilinearInterpolation": [("", [(2, 2, 3, 4), (1, 1, 5, 2)], {"constant": (1,)})],
}
