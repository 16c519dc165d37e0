"""Configurations for the registry tests: yolov3_loss.py."""

SIZES = ((18, 34), (45, 84), (65, 181), (141, 111), (129, 241), (254, 254))
BIASES = " ".join(f"biases: {side}" for size in SIZES for side in size)
_OBJECTS = [[[1, 0.3, 0.4, 0.2, 0.5], [0, 0.7, 0.9, 0.5, 0.1], *[[0] * 5] * 298], [[0] * 5] * 300]

CASES = {
    # the gradient is the fork's, not that of the top
    "Yolov3": [
        (
            f"yolov3_param {{ num_class: 2 num: 3 mask: 3 mask: 4 mask: 5 {BIASES} {body} }}",
            [(2, 21, 4, 5), (2, 1, 300, 5)],
            {"values": {1: _OBJECTS}, "gradcheck": False},
        )
        for body in ("", "use_logic_gradient: true use_focal_loss: true anchors_scale: 16")
    ],
}
