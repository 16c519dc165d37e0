"""``upgrade_net_proto_text``, ``upgrade_net_proto_binary`` and ``upgrade_solver_proto_text``.

Source: BVLC Caffe 1.0, ``tools/upgrade_*.cpp`` (behaviour only).  Exit status: 0 done; 1 something of the old file has
no place in the new format (the rest is written); 2 the file cannot be read.
"""

from __future__ import annotations

from caffe_compat import log
from caffe_compat.errors import in_file
from caffe_compat.files import atomic_write
from caffe_compat.proto import caffe_pb2, format_text, read_message_binary, read_message_text, upgrade_net
from caffe_compat.proto.upgrade import upgrade_solver as upgrade_solver_message

__all__ = ["upgrade_net_file", "upgrade_solver_file"]


def upgrade_net_file(source: str, target: str, binary: bool = False) -> int:
    """Write a net definition, or with ``binary`` a weights file, in the current format.

    Raises:
        CaffeCompatError: the file cannot be read, or mixes formats.
    """
    log.to_stderr()
    net = (read_message_binary if binary else read_message_text)(source, caffe_pb2.NetParameter)
    upgraded = upgrade_net(net, source)
    tag = f"upgrade_net_proto_{'binary' if binary else 'text'}.cpp"
    if not upgraded.problems and upgraded.net == net:
        log.info(f"File already in latest proto format: {source}", f"{tag}:32")
    if upgraded.problems:
        log.error("Encountered error(s) while upgrading prototxt; see details above.", f"{tag}:37")
    with atomic_write(target) as stream:
        stream.write(upgraded.net.SerializeToString() if binary else format_text(upgraded.net).encode())
    log.info(f"Wrote upgraded NetParameter {'binary' if binary else 'text'} proto to {target}", f"{tag}:44")
    return 1 if upgraded.problems else 0


def upgrade_solver_file(source: str, target: str) -> int:
    """Write a solver definition in the current format.

    Raises:
        CaffeCompatError: the file cannot be read.
    """
    log.to_stderr()
    tag = "upgrade_solver_proto_text.cpp"
    solver = read_message_text(source, caffe_pb2.SolverParameter)
    if not solver.HasField("solver_type"):
        log.info(f"File already in latest proto format: {source}", f"{tag}:33")
    with in_file(source):
        upgrade_solver_message(solver)
    with atomic_write(target) as stream:
        stream.write(format_text(solver).encode())
    log.info(f"Wrote upgraded SolverParameter text proto to {target}", f"{tag}:44")
    return 0
