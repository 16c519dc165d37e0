"""Pictures computed from measurements, many at a time: sources, encoders, workers, resume, one report.

A :class:`Frame` joins a source (where a measurement is read from) and an encoder (what makes a picture of it);
:func:`run_frames` does many, with workers, safe against Ctrl-C, and goes on where it stopped.  No modality is known
here: depth, flow and prediction bring their sources and encoders.
"""

from caffe_compat.frames.frame import Encoder, Extra, Frame, Reading, Source
from caffe_compat.frames.png import read_encoded, read_parameters, write_encoded
from caffe_compat.frames.report import Report, SummedWarning
from caffe_compat.frames.run import encode_frame, is_finished, run_frames
from caffe_compat.frames.work import map_jobs

__all__ = [
    "Encoder",
    "Extra",
    "Frame",
    "Reading",
    "Report",
    "Source",
    "SummedWarning",
    "encode_frame",
    "is_finished",
    "map_jobs",
    "read_encoded",
    "read_parameters",
    "run_frames",
    "write_encoded",
]
