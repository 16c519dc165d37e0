"""Configurations of the shape layers for the tests over the whole registry; ``tops`` is their number of tops."""

IMAGE = (2, 6, 4, 5)

CASES = {
    "Tiling": [("tiling_param { tile_dim: 2 }", [(2, 8, 2, 3)], {})],
    "Flatten": [
        ("", [IMAGE], {}),
        ("flatten_param { axis: 2 }", [IMAGE], {}),
        ("flatten_param { axis: 1 end_axis: 2 }", [IMAGE], {}),
        ("flatten_param { axis: 0 end_axis: -2 }", [IMAGE], {}),
    ],
    "Reshape": [
        ("reshape_param { shape { dim: 0 dim: 3 dim: 2 dim: -1 } }", [IMAGE], {}),
        ("reshape_param { shape { dim: -1 dim: 1 } axis: 1 num_axes: 2 }", [IMAGE], {}),
        ("reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }", [IMAGE], {}),
        ("reshape_param { shape { dim: 0 dim: 2 dim: 2 dim: 4 dim: 5 } }", [(6, 4, 4, 5)], {}),
    ],
    "Concat": [
        ("", [(2, 3, 4, 5), (2, 1, 4, 5)], {}),
        ("concat_param { axis: -2 }", [(2, 3, 4, 5), (2, 3, 1, 5), (2, 3, 2, 5)], {}),
        ("concat_param { concat_dim: 0 }", [(2, 3), (1, 3)], {}),
        ("", [IMAGE], {}),
    ],
    "Slice": [
        ("", [IMAGE], {"tops": 3}),
        ("slice_param { slice_point: 1 slice_point: 4 }", [IMAGE], {"tops": 3}),
        ("slice_param { slice_dim: 0 }", [IMAGE], {"tops": 2}),
        ("slice_param { axis: -2 slice_point: 3 }", [IMAGE], {"tops": 2}),
        ("slice_param { slice_point: 6 }", [IMAGE], {"tops": 2}),
    ],
    "Tile": [("tile_param { tiles: 2 }", [IMAGE], {}), ("tile_param { axis: -1 tiles: 3 }", [IMAGE], {})],
    "RepMat": [
        ("repmat_param { rep_h: 3 rep_w: 2 }", [(2, 3, 1, 1)], {}),
        ("repmat_param { rep_n: 2 rep_c: 2 rep_h: 2 }", [(2, 3)], {}),
    ],
    "Split": [("", [IMAGE], {"tops": 2})],
    "Silence": [("", [IMAGE, (2,)], {"tops": 0})],
}
