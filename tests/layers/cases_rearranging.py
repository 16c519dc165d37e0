"""Configurations for the registry tests: rearranging.py."""

CASES = {
    "Pad": [
        ("pad_param { paddings: [0, 0, 0, 0, 1, 2, 0, 3] }", [(2, 3, 2, 4)], {}),
        ("pad_param { paddings: [1, 0, 0, 2] constant_values: -1.5 }", [(2, 3)], {}),
    ],
    "DepthToSpace": [
        ("depth_to_space_param { block_size: 2 }", [(2, 3, 2, 8)], {}),
        ('depth_to_space_param { block_size: 2 data_format: "NCHW" }', [(2, 8, 2, 3)], {}),
        ('depth_to_space_param { block_size: 3 data_format: "DCR" }', [(1, 9, 2, 1)], {}),
        ('depth_to_space_param { block_size: 2 data_format: "CRD" }', [(2, 8, 3, 2)], {}),
    ],
    "SpaceToBatchND": [
        (
            "space_to_batch_nd_param { block_shape: [1, 2, 3] paddings: [0, 0, 1, 2, 0, 1] }",
            [(2, 3, 3, 5)],
            {},
        ),
        ("space_to_batch_nd_param { block_shape: 2 paddings: [0, 0] }", [(2, 4, 3)], {}),
    ],
    "BatchToSpaceND": [
        ("batch_to_space_nd_param { block_shape: [1, 2, 3] crops: [0, 0, 1, 0, 0, 2] }", [(12, 3, 3, 2)], {}),
        ("batch_to_space_nd_param { block_shape: 2 crops: [0, 0] }", [(4, 2, 3)], {}),
    ],
}
