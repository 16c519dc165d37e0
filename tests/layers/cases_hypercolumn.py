"""Configurations for the registry tests: hypercolumn.py."""

_BOXES = [[0, 0, 0.1, 0.2, 0.8, 0.9], [1, 1, 0.0, 0.0, 1.0, 1.0], [1, 0, 0.4, 0.4, 0.45, 0.5]]
_LOSS = "local_layer_param { grid_size: 2 pos_loss_wt: 1 neg_loss_wt: 1 }"

CASES = {
    "LocallyConnected": [
        ("local_layer_param { grid_size: 2 }", [(2, 8, 5, 6)], {}),
        ("local_layer_param { grid_size: 3 }", [(1, 9, 2, 7)], {}),
    ],
    "LocallyConnectedWithLoss": [
        (_LOSS, [(2, 8, 3, 4), (2, 2, 3, 4), (2,)], {"labels": {1: 2}, "constant": [2]}),
        # the gradient takes no notice of the weights of the value
        (
            "local_layer_param { grid_size: 1 pos_loss_wt: 2 }",
            [(2, 1, 3, 4), (2, 1, 3, 4), (2,)],
            {"labels": {1: 2}, "gradcheck": False},
        ),
    ],
    "BoxUpsample": [
        (
            "box_upsample_param { width: 4 height: 5 channels: 3 }",
            [(2, 7, 5, 6), (3, 6)],
            {"values": {1: _BOXES}},
        )
    ],
    "SimpleUpsample": [("upsample_param { width: 7 height: 3 }", [(2, 3, 4, 5)], {})],
    "Upsample": [("upsample_param { width: 7 height: 3 }", [(2, 3, 4, 5)], {})],
    "SuperpixelProjection": [
        # the last axis of the top is known only from the data
        (
            "",
            [(1, 1, 4, 6), (3, 6), (3, 1, 5, 5)],
            {"values": {0: [[[[1, 1, 2, 2, 3, 3]] * 4]], 1: _BOXES}, "meta": False},
        )
    ],
}
