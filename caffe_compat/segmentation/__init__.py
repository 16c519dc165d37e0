"""Simultaneous detection and segmentation: what hypercolumn nets are fed, and what their masks are worth."""
