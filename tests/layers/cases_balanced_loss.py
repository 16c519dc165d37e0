"""Configurations for the registry tests: balanced_loss.py."""

CASES = {
    "SigmoidCrossEntropyBalanceLoss": [
        ("", [(2, 1, 3, 4), (2, 1, 3, 4)], {"labels": {1: 2}}),
        ("loss_weight: 2", [(1, 6), (1, 2, 3)], {"labels": {1: 2}}),
    ],
}
