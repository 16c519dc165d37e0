"""Configurations of the layers of supervision transfer for the tests over the whole registry."""

CASES = {
    "AlignMaps": [("", [(2, 3, 4, 6), (2, 5, 5, 5)], {"tops": 2})],
    "DeadUnits": [("", [(2, 3, 4, 5)], {"constant": [0]})],
    "ExplainedVariance": [("", [(2, 3, 4, 5), (2, 3, 4, 5)], {"constant": [0, 1]})],
}
