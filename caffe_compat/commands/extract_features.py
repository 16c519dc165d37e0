"""Write blobs of a net, image by image, into databases.

    tools/extract_features.py WEIGHTS MODEL BLOB1[,BLOB2] DB1[,DB2] NUM_BATCHES DB_TYPE [CPU|GPU] [DEVICE_ID]

MODEL is run in the TEST phase and brings its own data layer.  Processes of torchrun take turns at the batches.
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.alias import install
from caffe_compat.commands.flags import FlagParser
from caffe_compat.commands.inputs import NET, WEIGHTS
from caffe_compat.ranks import here


def make_parser() -> FlagParser:
    """Caffe's arguments."""
    parser = FlagParser(__doc__)
    parser.add_argument("weights", type=WEIGHTS, metavar="WEIGHTS")
    parser.add_argument("model", type=NET, metavar="MODEL")
    parser.add_argument("blobs", metavar="BLOB1[,BLOB2]")
    parser.add_argument("databases", metavar="DB1[,DB2]")
    parser.add_argument("batches", metavar="NUM_BATCHES", type=int)
    parser.add_argument("backend", metavar="DB_TYPE", choices=("lmdb", "leveldb"), help="lmdb or leveldb")
    parser.add_argument("mode", metavar="CPU|GPU", nargs="?", default="CPU", choices=("CPU", "GPU"))
    parser.add_argument("device", metavar="DEVICE_ID", nargs="?", type=int, default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Extract."""
    args = make_parser().parse(argv)
    from caffe_compat.commands.features import extract_features
    from caffe_compat.devices import choose

    log.to_stderr()
    install()  # Python layers say "import caffe"
    own = here().local if here().several else 0  # each process its GPU
    device = choose(args.device + own if args.mode == "GPU" else None, "DEVICE_ID")
    blobs, databases = args.blobs.split(","), args.databases.split(",")
    extract_features(args.weights, args.model, blobs, databases, args.batches, args.backend, device)
    return 0
