"""Configurations for the registry tests: resizing.py."""

NEAREST = "resize_nearest_neighbor_param { %s }"
LINEAR = "resize_bilinear_param { %s }"
NCHW = 'data_format: "NCHW"'

CASES = {
    "ResizeNearestNeighbor": [
        (NEAREST % f"{NCHW} scale_height: 2 scale_width: 2", [(2, 3, 2, 4)], {}),
        (NEAREST % "output_height: 5 output_width: 3", [(1, 3, 4, 2)], {}),
        (NEAREST % f"{NCHW} output_height: 5 scale_width: 0.5 align_corners: true", [(2, 2, 3, 5)], {}),
        (NEAREST % f"{NCHW} output_height: 5 output_width: 7 half_pixel_centers: true", [(2, 2, 3, 3)], {}),
        (NEAREST % f"{NCHW} output_height: 2 output_width: 7 half_pixel_onnx: true", [(1, 2, 3, 3)], {}),
    ],
    "ResizeBilinear": [
        (LINEAR % "output_height: 5 output_width: 3", [(2, 3, 4, 2)], {}),
        (LINEAR % f"{NCHW} output_height: 5 output_width: 1 align_corners: true", [(2, 2, 3, 4)], {}),
        (LINEAR % "output_height: 2 output_width: 7 half_pixel_centers: true", [(2, 3, 3, 2)], {}),
        (LINEAR % f"{NCHW} scale_height: 1.5 output_width: 1 pytorch_half_pixel: true", [(2, 2, 3, 4)], {}),
        (LINEAR % f"{NCHW} scale_height: 1.5 scale_width: 2 pytorch_half_pixel: true", [(1, 2, 3, 4)], {}),
        (LINEAR % 'data_format: "NCHWD" output_height: 3 output_width: 2 output_depth: 4', [(1, 2, 2, 3, 3)], {}),
        (
            LINEAR % 'data_format: "NCHWD" output_height: 3 output_width: 4 scale_depth: 2 half_pixel_centers: true',
            [(1, 2, 2, 3, 2)],
            {},
        ),
    ],
    "UpsampleDarknet": [("upsample_darknet_param { stride: 2 }", [(2, 3, 2, 3)], {}), ("", [(1, 2, 3, 1)], {})],
}
