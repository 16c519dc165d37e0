"""Configurations for the registry tests: yolo.py, yolo_output.py."""

V2 = "biases: 1.1 biases: 0.7 biases: 2.5 biases: 3"
V3 = "biases: 10 biases: 13 biases: 30 biases: 23 biases: 60 biases: 90 biases: 50 biases: 20"

CASES = {
    # the gradient is the fork's, 0
    "Reorg": [
        ("reorg_param { stride: 2 }", [(2, 4, 4, 6)], {"gradcheck": False}),
        ("reorg_param { stride: 2 reverse: true }", [(1, 8, 3, 2)], {"gradcheck": False}),
        ("reorg_param { stride: 1 }", [(1, 2, 3, 2)], {"gradcheck": False}),
    ],
    "YoloDetectionOutput": [
        (f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {V2} }}", [(2, 16, 4, 4)], {}),
        (
            f"yolo_detection_output_param {{ num_classes: 2 num_box: 2 {V2} confidence_threshold: 0.4 }}",
            [(1, 14, 3, 3), (1, 14, 6, 6)],
            {},
        ),
        (
            f"yolo_detection_output_param {{ num_classes: 2 num_box: 2 {V2} confidence_threshold: 2.0 }}",
            [(3, 14, 3, 3)],
            {},
        ),
    ],
    "Yolov3DetectionOutput": [
        (
            f"yolov3_detection_output_param {{ num_classes: 3 num_box: 2 {V3} mask: 2 mask: 3 mask: 0 mask: 1 "
            "anchors_scale: 32 anchors_scale: 16 confidence_threshold: 0.3 }",
            [(1, 16, 2, 3), (1, 16, 4, 6)],
            {},
        ),
        (
            f"yolov3_detection_output_param {{ num_classes: 2 num_box: 2 {V3} mask: 0 mask: 1 mask_group_num: 1 "
            "anchors_scale: 8 confidence_threshold: 1.5 }",
            [(2, 14, 3, 2)],
            {},
        ),
    ],
}
