"""Caffe on PyTorch."""
