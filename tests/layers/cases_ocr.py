"""Configurations for the registry tests: dense_block.py and ctc.py."""

BODY = (  # no blank, so that no test of odd numbers makes 1000 transitions of it
    "numTransition:2 growthRate: 2 Filter_Filler { type: 'gaussian' std: 0.3 } "
    "BN_Scaler_Filler { value: 1 } BN_Bias_Filler { value: 0.1 }"
)

CASES = {
    "DenseBlock": [
        (f"denseblock_param {{ {BODY} }}", [(2, 3, 4, 5)], {"gradcheck": False}),
        (f"denseblock_param {{ {BODY} use_BC: true }}", [(2, 3, 3, 2)], {"gradcheck": False}),
    ],
    "WarpCTCLoss": [
        ("", [(4, 2, 3), (2, 2)], {"labels": {1: 3}, "gradcheck": False}),
        ("ctc_loss_param { blank_index: 2 }", [(4, 2, 3, 1), (2, 2, 1, 1)], {"labels": {1: 2}, "gradcheck": False}),
    ],
    "CTCGreedyDecoder": [
        ("", [(5, 2, 3)], {"gradcheck": False}),
        ("ctc_decoder_param { blank_index: -1 ctc_merge_repeated: false }", [(5, 2, 3)], {"gradcheck": False}),
        ("", [(5, 2, 3), (2, 3)], {"labels": {1: 3}, "gradcheck": False, "onnx": False}),
    ],
}
