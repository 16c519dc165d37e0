"""Write the nets and the solver of a supervision transfer, for any pair of nets and features.

    tools/make_transfer.py --teacher prototxt/alexnet/deploy.prototxt --student prototxt/alexnet/deploy.prototxt \\
        --layer pool5 --output output/my_transfer

The student learns, on images of another modality, to have the teacher's feature.  Written are train_val.prototxt,
solver.prototxt, student_deploy.prototxt (the student with its adaptation), and for one feature also
franken_deploy.prototxt (the student below, the teacher above) with surgery.json for net_surgery.
With --teacher-weights everything that decides whether training works is measured on the pairs: the teacher's mean norm,
the scale, the first weights of the adaptation, and the largest rate at which a short training is stable; --list shows
which features of two nets fit each other.
Paths in these files are relative to the folder that the tools are run from.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.parser import Parser
from caffe_compat.commands.transfer_arguments import add_transfer_arguments


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    add_transfer_arguments(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the files and say what to run next."""
    p = make_parser()
    arguments = p.parse_args(argv)
    from caffe_compat.commands.transfer_actions import list_features, make_transfer

    if arguments.list:
        print("\n".join(list_features(arguments)))
        return 0
    written = make_transfer(p, arguments)
    print("\n".join(f"wrote {name}" for name in written.files))
    print("\n".join([*written.remarks, "next:", *(f"  {command}" for command in written.commands)]))
    return 0
