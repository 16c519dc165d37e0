"""Who may look on while a net runs layer by layer."""

from __future__ import annotations

__all__ = ["Observer"]


class Observer:
    """Called around every layer that a :class:`~caffe_compat.net.engine.BlobNet` runs; each method does nothing.

    ``number`` is the index of the layer.  As in Caffe every layer counts, also one without a backward pass.
    """

    def before_forward(self, number: int) -> None:
        """The layer's bottoms are ready."""

    def after_forward(self, number: int) -> None:
        """The layer's tops are ready."""

    def before_backward(self, number: int) -> None:
        """The diffs of the layer's tops are ready."""

    def after_backward(self, number: int) -> None:
        """The diffs of the layer's bottoms and parameters are ready."""

    def after_backward_pass(self) -> None:
        """A backward pass through the whole net has ended."""
