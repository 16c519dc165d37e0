"""Configurations of the selecting layers for the tests over the whole registry.

``labels`` maps the number of a bottom that holds indices to the number of values that they may take; ``tops`` is the
number of tops; PickItems has Caffe's gradient (the last copy counts), which is no derivative.
"""

IMAGE = (3, 6, 4, 5)

CASES = {
    "Crop": [
        ("", [IMAGE, (3, 6, 2, 3)], {}),
        ("crop_param { axis: 1 offset: 1 offset: 2 offset: 0 }", [IMAGE, (9, 5, 2, 3)], {}),
        ("crop_param { axis: -1 offset: 2 }", [IMAGE, (1, 1, 1, 3)], {}),
    ],
    "Filter": [
        ("", [IMAGE, (3,)], {"labels": {1: 2}}),
        ("", [IMAGE, (3, 2), (3, 1, 1, 1)], {"labels": {2: 2}, "tops": 2}),
    ],
    "BatchReindex": [("", [IMAGE, (5,)], {"labels": {1: 3}})],
    "ArgMax": [
        ("", [IMAGE], {}),
        ("argmax_param { top_k: 3 out_max_val: true }", [IMAGE], {}),
        ("argmax_param { axis: 1 }", [IMAGE], {}),
        ("argmax_param { axis: -1 top_k: 2 out_max_val: true }", [IMAGE], {}),
        ("argmax_param { top_k: 2 }", [(4, 7)], {}),
    ],
    "Reduction": [
        ("", [(3, 6)], {}),
        ("reduction_param { operation: ASUM axis: 1 coeff: 2 }", [IMAGE], {}),
        ("reduction_param { operation: SUMSQ axis: -1 }", [IMAGE], {}),
        ("reduction_param { operation: MEAN axis: 2 coeff: 0.5 }", [IMAGE], {}),
    ],
    "PickSlice": [
        ("pick_slice_param { channels: 2 }", [IMAGE, (3,)], {"labels": {1: 3}}),
        ("pick_slice_param { channels: 4 }", [(3, 6), (3, 1, 1, 1)], {"labels": {1: 1}}),
    ],
    "PickItems": [("", [IMAGE, (2, 1)], {"labels": {1: 3}, "gradcheck": False})],
}
