"""Configurations for the registry tests: normalization.py."""

CASES = {
    "LRN": [
        ("lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }", [(2, 5, 3, 2)], {}),
        ("lrn_param { local_size: 5 alpha: 0.3 beta: 0.6 }", [(1, 3, 3, 3)], {}),
        ("lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }", [(2, 2, 4, 5)], {}),
    ],
    "BatchNorm": [
        ("batch_norm_param { eps: 0.01 }", [(3, 4, 3, 2)], {}),
        ("batch_norm_param { use_global_stats: false eps: 0.01 }", [(3, 4)], {}),
    ],
    "MVN": [
        # the gradient takes std + eps for std (as Caffe's), so only a small eps agrees with numerical differences
        ("mvn_param { }", [(2, 3, 3, 4)], {}),
        ("mvn_param { across_channels: true }", [(3, 5)], {}),
        ("mvn_param { normalize_variance: false }", [(2, 2, 3, 3)], {}),
    ],
}
