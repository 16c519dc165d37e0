"""List the frames of a recording (colour and depth in folders) for make_hha --index.

Two folders:        index.py rgb/ depth/ -o index.json --camera tum_fr1
A RealSense:        index.py color/ depth/ -o index.json --camera realsense_d435
TUM, a ROS bag:     index.py recording/ -o index.json --camera camera_info.yaml --units-per-metre 1000
Not yet registered: index.py color/ depth/ -o index.json --calibration calibration.json --units-per-metre 1000
With gravity:       index.py color/ depth/ -o index.json --camera realsense_d455 --imu accel.csv
First a look:       index.py color/ depth/ --camera realsense_d435 --dry-run

Files are paired by name, by time stamp or by number, whichever gives all of them a partner; the rule is printed, and
files without a partner are named.  Depth of another size than colour is registered to it: that takes both cameras and
how they stand (--calibration, or --depth-camera and --extrinsics), and writes png files beside the index.

A calibration is a JSON of one's own, what rs-enumerate-devices -c prints, the raw JSON of an Azure Kinect, or the YAML
of a ROS camera_info.  A named camera is nominal, good to a few per cent, at the resolution of the pictures.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import CALIBRATION, FOLDER, LIST, NEW_FILE, NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.depth.camera import CAMERAS
from caffe_compat.depth.nominal import NOMINAL


def make_parser() -> argparse.ArgumentParser:
    """Where the files are, how they pair, and who made them."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("folders", type=FOLDER, nargs="+", metavar="FOLDER",
        help="folders of colour and of depth; or one that holds both")  # fmt: skip
    add("-o", "--output", type=NEW_FILE, help="the list of frames, a JSON file; paths in it are relative to it")
    add("--dry-run", action="store_true", help="show all pairs and what would be written; write nothing")
    add("--scene", help="what the frames show, for --hold-out-scenes (default: the name of the folder around both)")
    add("--workers", type=int, default=0, help="processes that register (default: work in this one)")
    add("--quiet", action="store_true", help="no progress bar")
    pairs = parser.add_argument_group("pairs").add_argument
    pairs("--by", choices=("stem", "number", "time"), help="pair by names without words such as color and depth, by "
          "the last number in the names, or by time stamps in them (default: the first that serves)")  # fmt: skip
    pairs("--max-gap", type=float, default=0.02, metavar="SECONDS", help="longest time apart (default %(default)s)")
    pairs("--time-unit", choices=("s", "ms", "us", "ns"), help="of time stamps in names (needed if they do not "
          "count from 1970)")  # fmt: skip
    camera = parser.add_argument_group("cameras").add_argument
    known = ", ".join(sorted({*NOMINAL, *CAMERAS}))
    camera("--camera", help="of the colour pictures, and of depth registered to them: a name, NAME@WxH, a file, "
           f"or fx,fy,cx,cy; names: {known}")  # fmt: skip
    camera("--origin", type=int, choices=(0, 1), help="coordinate of the first pixel (cameras by name know it; else 0)")
    camera("--units-per-metre", type=float, help="of depth: 1000 for millimetres (cameras by name know what is usual)")
    camera("--invalid", type=int, nargs="*", help="codes without a measurement (default 0 65535)")
    camera("--calibration", type=CALIBRATION, help="both cameras and how they stand, in one file")
    camera("--depth-camera", help="of depth that is not registered, as --camera")
    camera("--extrinsics", type=CALIBRATION, help="rotation and translation (metres) from depth to colour camera")
    camera("--register", action="store_true", help="register depth to colour, though it has its size")
    camera("--registered", type=NEW_FOLDER, metavar="FOLDER", help="for registered depth (default: INDEX_depth)")
    imu = parser.add_argument_group("gravity").add_argument
    imu("--imu", type=LIST, metavar="CSV", help="samples of the camera's accelerometer: time, x, y, z")
    imu("--imu-axes", default="x,y,z", metavar="R,D,F", help="which of its axes point right, down and forward of the "
        "depth camera, as -y,-z,x (default: x,y,z, as RealSense has it)")  # fmt: skip
    imu("--imu-columns", metavar="T,X,Y,Z", help="columns, from 0 (default: by their names)")
    imu("--imu-unit", choices=("s", "ms", "us", "ns"), help="of its time")
    imu("--imu-window", type=float, default=0.1, metavar="SECONDS", help="samples so near are averaged (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the list and say what was done; 1 if a frame could not be used."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.indexing import index_frames

    done = index_frames(args)
    print("\n".join(done.lines))
    return 1 if done.failed else 0
