"""Configurations for the registry tests: center_loss.py.  The gradient of the centres is not the derivative."""

FILLER = 'center_filler { type: "gaussian" std: 1 }'

CASES = {
    "CenterLoss": [
        (f"center_loss_param {{ num_output: 5 {FILLER} }}", [(4, 3), (4,)], {"labels": {1: 5}, "gradcheck": False}),
        (
            f"center_loss_param {{ num_output: 3 {FILLER} }}",
            [(4, 2, 2, 1), (4, 1)],
            {"labels": {1: 3}, "gradcheck": False},
        ),
    ],
}
