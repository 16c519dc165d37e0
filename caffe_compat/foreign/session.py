"""The session's former home; it stands in :mod:`caffe_compat.deploy`."""

from caffe_compat.deploy import Session

__all__ = ["Session"]
