"""What the programs in ``tools/`` that bear the names of Caffe's own do; one module for each.

Training is in :mod:`caffe_compat.solver.command`, ONNX export in :mod:`caffe_compat.onnx.command`.
"""
