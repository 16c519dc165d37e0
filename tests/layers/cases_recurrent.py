"""Configurations for the registry tests: recurrent.py."""

_PARAM = "recurrent_param { num_output: 3 weight_filler { type: 'uniform' min: -1 } bias_filler { type: 'gaussian' } "
_STATE = (1, 2, 3)

CASES = {
    "LSTM": [
        # the state of one pass is the start of the next, so finite differences would need a reset in between
        (_PARAM + "}", [(4, 2, 5), (4, 2)], {"labels": {1: 2}, "gradcheck": False}),
        (
            _PARAM + "expose_hidden: true }",
            [(4, 2, 5), (4, 2), (2, 2), _STATE, _STATE],
            {"labels": {1: 2}, "constant": [3, 4], "tops": 3},
        ),
    ],
    "RNN": [
        (_PARAM + "}", [(3, 2, 5, 1), (3, 2), (2, 2)], {"labels": {1: 2}, "gradcheck": False}),
        (
            _PARAM + "expose_hidden: true }",
            [(4, 2, 5), (4, 2), _STATE],
            {"labels": {1: 2}, "constant": [2], "tops": 2},
        ),
    ],
    "LSTMUnit": [("", [(1, 2, 3), (1, 2, 12), (1, 2)], {"labels": {2: 2}, "tops": 2})],
}
