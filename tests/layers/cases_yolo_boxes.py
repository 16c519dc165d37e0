"""Configurations for the registry tests: yolo_boxes.py."""

from cases_region_loss import BIASES

CASES = {
    "DetectionOutput": [
        (
            f"detection_output_param {{ {kind}: 3 side: 2 confidence_threshold: {threshold} {BIASES} }}",
            [(images, 40, 2, 2)],
            {},
        )
        for kind, images, threshold in (("num_classes", 1, 0.1), ("classes", 2, 0.1), ("classes", 2, 2))
    ],
    "Region": [("region_param { classes: 2 boxes_of_each_grid: 3 softmax: true }", [(2, 21, 2, 3)], {})],
}
