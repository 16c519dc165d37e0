"""A configuration of the Python layer for the tests over the whole registry; the class is in ``user_layers.py``."""

CASES = {
    "Python": [("python_param { module: 'user_layers' layer: 'Square' param_str: '0.5' }", [(2, 3)], {})],
}
