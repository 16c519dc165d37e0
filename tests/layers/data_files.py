"""Small data files for the tests of the data layers, made when they are needed."""

from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np

from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.proto import caffe_pb2


def image(number: int, height: int = 6, width: int = 8) -> np.ndarray:
    """A BGR image whose pixels are all different from their neighbours."""
    grid = np.arange(height * width * 3).reshape(height, width, 3)
    return ((grid * 37 + number * 11) % 251).astype(np.uint8)


def write_images(folder: Path, count: int = 5, height: int = 6, width: int = 8) -> None:
    """``0.png`` ... and, for pairs, ``0 second.png`` ..., a list and a list of pairs."""
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), image(number, height, width))
        cv2.imwrite(str(folder / f"{number} second.png"), image(number + 100, height, width))
    (folder / "list.txt").write_text("".join(f"{folder}/{n}.png {n + 10}\n" for n in range(count)))
    (folder / "pairs.txt").write_text("".join(f'{n}.png "{n} second.png"\n' for n in range(count)))


def write_clips(folder: Path, frames: tuple[int, ...] = (7, 4, 2), height: int = 6, width: int = 8) -> None:
    """Folders ``clip0``, ... of frames and flow, numbered from 1, a list of them, and a video of 9 frames."""
    for clip, count in enumerate(frames):
        (folder / f"clip{clip}").mkdir()
        for number in range(1, count + 1):
            frame = image(10 * clip + number, height, width)
            cv2.imwrite(str(folder / f"clip{clip}" / f"image_{number:04d}.png"), frame)
            cv2.imwrite(str(folder / f"clip{clip}" / f"flow_x_{number:04d}.png"), frame[..., 0])
            cv2.imwrite(str(folder / f"clip{clip}" / f"flow_y_{number:04d}.png"), frame[..., 1])
    lines = (f"{folder}/clip{clip} {count} {clip + 5}\n" for clip, count in enumerate(frames))
    (folder / "clips.txt").write_text("".join(lines))
    video = cv2.VideoWriter(str(folder / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(9):
        video.write(np.full((24, 32, 3), 20 * number + 10, np.uint8))
    video.release()


def volume(number: int, kind: type[np.generic], channels: int = 5) -> np.ndarray:
    """Numbers [channels, 3, 5, 6] of a volume."""
    values = np.arange(channels * 90).reshape(channels, 3, 5, 6)
    return ((37 * values + 11 * number) % 251).astype(kind)


def write_volumes(folder: Path) -> None:
    """Folders ``frames0`` and ``frames1`` of 8 pictures, numbered from 0, and C3D's binary volumes; lists of them."""
    for clip in range(2):
        (folder / f"frames{clip}").mkdir()
        for number in range(8):
            cv2.imwrite(str(folder / f"frames{clip}" / f"{number:06d}.jpg"), image(10 * clip + number))
    (folder / "frames.txt").write_text(f"{folder}/frames0 1 3\n{folder}/frames1 2 4\n")
    (folder / "counts.txt").write_text(f"{folder}/frames0 7 3\n")
    (folder / "several.txt").write_text(f"{folder}/frames0 1 3,0\n{folder}/frames1 2 2\n")
    for name, kind in (("bytes", np.uint8), ("floats", np.float32)):
        for number in range(2):
            numbers = volume(number, kind)
            head = np.array([1, *numbers.shape], "<i4").tobytes()
            (folder / f"{name}{number}.bin").write_bytes(head + numbers.tobytes())
        (folder / f"{name}.txt").write_text("".join(f"{folder}/{name}{number}.bin\n" for number in range(2)))


def datum(number: int) -> bytes:
    """An image as a raw Datum."""
    pixels = image(number)
    message = caffe_pb2.Datum(
        channels=3, height=6, width=8, data=pixels.transpose(2, 0, 1).tobytes(), label=number + 10
    )
    return message.SerializeToString()


def boxed(number: int, rows: list[tuple[float, ...]], height: int = 30, width: int = 40) -> bytes:
    """A picture (PNG) with rows of numbers of boxes as a Datum."""
    encoded = cv2.imencode(".png", image(number, height, width))[1].tobytes()
    message = caffe_pb2.Datum(channels=3, height=height, width=width, data=encoded, encoded=True)
    message.float_data.extend(value for row in rows for value in row)
    return message.SerializeToString()


def annotated(number: int, boxes: list[tuple[float, ...]], height: int = 30, width: int = 40) -> bytes:
    """A picture (PNG) with boxes (label, x1, y1, x2, y2[, difficult]) as an AnnotatedDatum."""
    message = caffe_pb2.AnnotatedDatum(type="BBOX")
    encoded = cv2.imencode(".png", image(number, height, width))[1].tobytes()
    message.datum.CopyFrom(caffe_pb2.Datum(channels=3, height=height, width=width, data=encoded, encoded=True))
    for instance, (label, x1, y1, x2, y2, *difficult) in enumerate(boxes):
        group = message.annotation_group.add(group_label=int(label))
        one = group.annotation.add(instance_id=instance)
        one.bbox.xmin, one.bbox.ymin, one.bbox.xmax, one.bbox.ymax = x1, y1, x2, y2
        one.bbox.difficult = bool(difficult and difficult[0])
    return message.SerializeToString()


def sparse(size: int, label: float, *entries: tuple[int, float]) -> bytes:
    """A ``SparseDatum`` with (place, value) entries."""
    places, values = [place for place, _ in entries], [value for _, value in entries]
    datum = caffe_pb2.SparseDatum(size=size, nnz=len(entries), indices=places, data=values, label=label)
    return datum.SerializeToString()


def write_lmdb(path: Path, records: list[bytes]) -> None:
    """A database with keys ``00000000``, ``00000001``, ..."""
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for number, record in enumerate(records):
            transaction.put(f"{number:08d}".encode(), record)


def write_hdf5(folder: Path, rows: list[int]) -> None:
    """Files ``part0.h5`` ... with datasets ``data`` (rows, 2) and ``label`` (rows), and the list ``h5.txt``.

    Values count up from 0 over all files.
    """
    start = 0
    for number, count in enumerate(rows):
        with h5py.File(folder / f"part{number}.h5", "w") as file:
            label = np.arange(start, start + count)
            file["label"] = label
            file["data"] = np.stack([label, -label], 1).astype(np.float64)
        start += count
    (folder / "h5.txt").write_text("".join(f"{folder}/part{number}.h5\n" for number in range(len(rows))))


def write_windows(folder: Path) -> None:
    """``windows.txt``: one foreground window of image 0, one background window of image 1."""
    (folder / "windows.txt").write_text(
        f"# 0\n{folder}/0.png\n3 6 8\n1\n3 0.9 1 1 4 4\n# 1\n{folder}/1.png\n3 6 8\n2\n5 0.1 2 0 6 5\n2 0.45 0 0 1 1\n"
    )


def write_boxes(folder: Path, count: int = 5, most: int = 40, size: tuple[int, int] = (6, 8)) -> list[np.ndarray]:
    """``boxes.npz`` with proposals of ``0.png`` ...: whole pixels, different, at least 2 pixels either way."""
    height, width = size
    every = [(x, y, u, v) for x in range(width) for y in range(height) for u in range(x + 1, width)
             for v in range(y + 1, height)]  # fmt: skip
    random = np.random.default_rng(4)
    boxes = [
        np.array(every, np.float32)[random.choice(len(every), most - number, replace=False)] for number in range(count)
    ]
    names = [str(number) for number in range(count)]
    write_proposal_file(folder / "boxes.npz", ProposalFile(names, boxes))
    return boxes


def write_all(folder: Path) -> None:
    """Everything above."""
    write_images(folder)
    write_lmdb(folder / "lmdb", [datum(number) for number in range(5)])
    write_lmdb(folder / "boxed", [boxed(n, [(n, 0, 0.5, 0.4, 0.3, 0.2)]) for n in range(3)])
    write_lmdb(folder / "annotated", [annotated(n, [(n + 1, 0.1, 0.2, 0.6, 0.9)]) for n in range(3)])
    write_lmdb(folder / "sparse", [sparse(5, n, (n, 0.5), (4, 2)) for n in range(3)])
    write_hdf5(folder, [3, 2])
    write_windows(folder)
    write_boxes(folder)


BOX_PICTURES = (
    (40, 30, [(1, 0, 0, 4, 3, 15, 14), (2, 0, 1, 10, 12, 27, 37)], [(0, 30, 29, 39)]),
    (24, 32, [(1, 1, 0, 2, 2, 9, 8)], []),
    (20, 44, [], []),
    (36, 28, [(2, 0, 0, 1, 1, 26, 34), (1, 0, 0, 12, 20, 13, 21)], []),
)
"""Height, width, boxes (class, ignored, difficult, x1, y1, x2, y2) and what is not of interest."""


def write_box_lists(folder: Path) -> None:
    """``box0.png`` ..., and lists of them in MS-CNN's form (``mscnn.txt``) and Cascade R-CNN's (``cascade.txt``)."""
    texts = {"mscnn": "", "cascade": ""}
    for number, (height, width, boxes, outside) in enumerate(BOX_PICTURES):
        cv2.imwrite(str(folder / f"box{number}.png"), image(number, height, width))
        for name in texts:
            rows = [row if name == "cascade" else (*row[:2], *row[3:]) for row in boxes]
            lines = [f"# {number}", f"box{number}.png", "3", str(height), str(width), str(len(rows))]
            lines += [" ".join(map(str, row)) for row in rows] + [str(len(outside))]
            lines += [" ".join(map(str, row)) for row in outside]
            texts[name] += "\n".join(lines) + "\n"
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
