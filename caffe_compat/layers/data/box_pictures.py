"""Pictures with boxes and maps of what cells have to learn: MS-CNN's ImageGtData, Cascade R-CNN's DetectionData and
EvalData."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.box_cells import Cells
from caffe_compat.batches.box_pictures import BoxItem, BoxJob, BoxReader, EvalReader, Setting
from caffe_compat.batches.box_sizes import Octaves, Scales, Template
from caffe_compat.files import open_existing
from caffe_compat.layers.base import UNLIMITED, Shape
from caffe_compat.layers.data.aspects import ORDERS, AspectOrder
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing
from caffe_compat.media.box_lists import BoxPicture, read_box_list

__all__ = ["DetectionData", "EvalData", "ImageGtData"]


class _BoxData(DataLayer):
    """What the three share: a list in MS-CNN's form, pictures in colour."""

    labelled = True
    sized_by_values = True  # how many boxes there are, and which way a picture lies
    field: str
    difficult: bool
    order: Order

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, int(params.section("data_param").prefetch))
        section = params.section(self.field)
        self.source, self.size = str(section.source), self.batch_size(section)
        self.setting = self._read_setting(section)
        self.pictures = self._read_list(section)
        self.last = self.pictures[-1].size[1:]
        if self.pictures[-1].size[0] != 3:
            raise self.data_error(
                f"{self.source}: the last picture ({self.pictures[-1].path}) is said to have "
                f"{self.pictures[-1].size[0]} channels, expected 3: pictures are read in colour"
            )
        self._contents: list[bytes] | None = None

    def _read_list(self, section: Section) -> list[BoxPicture]:
        return read_box_list(self.source, str(section.root_folder), self.difficult)

    def _read_setting(self, section: Section) -> Setting:
        transform = self.params.section("transform_param")
        mean = np.array(transform.mean_value, np.float32)
        if mean.size not in (0, 1, 3):
            raise self.error(f"has {mean.size} mean_value entries, expected 1 or one per channel (3)")
        return Setting(self.source, mean, self._read_scale(section, transform), bool(transform.mirror))

    def _read_scale(self, section: Section, transform: Section) -> np.float32:
        ignore_transform_fields(self.params, section, "scale")
        return np.float32(transform.scale)

    def both(self, section: Section, first: str, second: str) -> tuple[int, int] | None:
        """Two fields that count only together; None without both, as there."""
        if not (section.has(first) and section.has(second)):
            return None
        found = int(section.value(first)), int(section.value(second))
        if min(found) < 1:
            raise self.error(f"{self.field} has {first} {found[0]} and {second} {found[1]}, expected positive numbers")
        return found

    def start(self, shuffle: bool) -> None:
        """Number the pictures."""
        self.samples = len(self.pictures)
        self.order = Order(self.samples, shuffle, self.seed)

    def in_order(self) -> None:
        """Let pictures come by the numbers that the list has for them, as in Cascade R-CNN."""
        wrong = next((one for one in self.pictures if not 0 <= one.number < len(self.pictures)), None)
        if wrong is not None:
            raise self.data_error(
                f"{self.source}: there is a picture number {wrong.number}, expected 0 to {len(self.pictures) - 1}"
            )
        self.pictures = [self.pictures[one.number] for one in self.pictures]

    def keep_files(self) -> None:
        """Keep all files in memory as they are."""
        self._contents = []
        for picture in self.pictures:
            with open_existing(picture.path, f"image named in {self.source}") as stream:
                self._contents.append(stream.read())

    def job(self, number: int) -> BoxJob:
        """As :meth:`DataLayer.job`."""
        places = [self.order[index] for index in self.records(number, self.size)]
        contents = self._contents
        items = [BoxItem(self.pictures[at], None if contents is None else contents[at]) for at in places]
        return BoxJob(self.random_seed(number), items)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`."""
        found = Preprocessing(
            "color",
            mean=tuple(map(plain, self.setting.mean)),
            scale=plain(self.setting.scale),
            flip=self.setting.mirror,
        )
        return {self.params.tops[0]: found}

    def _require_tops(self, maps: int, boxes: bool) -> None:
        wanted = 1 + maps + boxes
        if len(self.params.tops) != wanted:
            raise self.error(
                f"has {len(self.params.tops)} tops, expected {wanted}: pictures, {maps} maps"
                + (", and boxes of ground truth" if boxes else "")
            )

    def _cell_fields(self, section: Section, stride: str) -> list[tuple[int, int, int]]:
        """Width, height and pixels of a cell of each map."""
        if section.coord_num != 4:
            raise self.error(f"{self.field}.coord_num is {section.coord_num}, expected 4")
        lists = [list(map(int, section.value(name))) for name in ("field_w", "field_h", stride)]
        if len({len(one) for one in lists}) != 1 or any(size < 1 for one in lists for size in one):
            raise self.error(
                f"{self.field} has {len(lists[0])} field_w, {len(lists[1])} field_h and {len(lists[2])} {stride}, "
                "expected as many positive numbers of each"
            )
        return list(zip(*lists, strict=True))

    def _aspects(self, section: Section) -> tuple[float, float] | None:
        """Least and greatest ratio of sides."""
        if not (section.has("min_whaspect") and section.has("max_whaspect")):
            return None
        low, high = float(section.min_whaspect), float(section.max_whaspect)
        if not 0 < low < high < math.inf:
            raise self.error(
                f"{self.field} has min_whaspect {low:g} and max_whaspect {high:g}, expected positive numbers in order"
            )
        return low, high


@register(dialect="mscnn")
class ImageGtData(_BoxData):
    """Batches of pictures, a map of classes and boxes for each ``field_w``, and boxes of ground truth.

    Tops: (batch, 3, height, width), for each field (batch, 6, height / downsample_rate, width / downsample_rate) with
    class, x and y of the centre, width, height and overlap, and with ``output_gt_boxes`` [G, 7, 1, 1] (item, x1, y1,
    x2, y2, class, ignored); without any box one that is ignored, of pixels 1 to 2.  A picture is mirrored (``mirror``
    of transform_param), resized to ``resize_width`` x ``resize_height``, half of the time made larger or smaller so
    that a box of it gets one of some sizes (``do_multiple_scale`` with ``min_scale`` and ``max_scale``; half of these
    times with other sides, ``min_whaspect`` and ``max_whaspect``), and cut around that box, or put into zeros, to
    ``crop_width`` x ``crop_height``.  A cell has the class of the box that its field overlaps more than
    ``fg_threshold``, 0 if that is ignored: marked so, smaller than ``min_gt_width`` or ``min_gt_height``, or with its
    middle outside.  Boxes that no cell got go to the cell in their middle.  Cells outside of the picture, or in what is
    not of interest, have the overlap 1.  ``fg_img_multiple``: how often pictures with boxes are in the list.
    Source: ``image_gt_data_layer.cpp`` of zhaoweicai/mscnn.
    """

    caffe_type = "ImageGtData"
    top_count = (2, UNLIMITED)
    field, difficult = "image_gt_data_param", False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        ignore_transform_fields(params, section, "mean_file", "mirror")
        self.start(bool(section.shuffle))
        fields = self._cell_fields(section, "downsample_rate")
        self._require_tops(len(fields), bool(section.output_gt_boxes))
        if not fields:
            raise self.error(f"{self.field} has no field_w, expected one for each map")
        least = float(section.min_gt_width), float(section.min_gt_height)
        cells = Cells(fields, float(section.fg_threshold), 0.4, least, 0.2, pixel=False)
        resize = self.both(section, "resize_height", "resize_width")
        height, width = self._template(section, resize or self.last)
        maps = cells.shapes((height, width))
        for (_, _, stride), shape in zip(fields, maps, strict=True):
            if shape != (height // stride, width // stride):
                raise self.error(
                    f"{self.field}: a picture of {width}x{height} has no whole cells of {stride} pixels, expected "
                    "sides whose rest is less than half a cell"
                )
        if section.cache_images:
            self.keep_files()
        template = Template(resize=resize, crop=(height, width))
        self.reader = BoxReader(self.who, self.setting, template, cells, self._octaves(section))
        self.shapes = [(self.size, 3, height, width), *[(self.size, 6, *shape) for shape in maps]]
        self.shapes += [(1, 7, 1, 1)] * bool(section.output_gt_boxes)

    def _read_scale(self, section: Section, transform: Section) -> np.float32:
        return np.float32(section.scale)

    def _read_list(self, section: Section) -> list[BoxPicture]:
        times = int(section.fg_img_multiple)
        if times < 1:
            raise self.error(f"{self.field}.fg_img_multiple is {times}, expected a positive number")
        found = super()._read_list(section)
        return [one for one in found for _ in range(times if (one.marks[:, 1] == 0).any() else 1)]

    def _template(self, section: Section, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the tops; crops count only together, and 0 is none."""
        crops = int(section.crop_height), int(section.crop_width)
        if not (section.has("crop_height") and section.has("crop_width")):
            return size[0], size[1]
        if any(crop > side for crop, side in zip(crops, size, strict=True)):
            raise self.error(f"{self.field} has a crop of {crops[1]}x{crops[0]}, expected at most {size[1]}x{size[0]}")
        return crops[0] or size[0], crops[1] or size[1]

    def _octaves(self, section: Section) -> Octaves | None:
        low, high, aspects = int(section.min_scale), int(section.max_scale), self._aspects(section)
        if not (section.do_multiple_scale and section.has("min_scale") and section.has("max_scale")):
            return None
        if not 0 < low <= high:
            raise self.error(f"{self.field} has min_scale {low} and max_scale {high}, expected positive ones in order")
        return Octaves(low, high, aspects)


@register(dialect="cascade")
class DetectionData(_BoxData):
    """Batches of pictures, a map of classes and boxes for each ``field_w``, and boxes of ground truth.

    Tops as ImageGtData's, with rows [G, 8, 1, 1] that also say whether a box is difficult; without any box one of -1.
    A picture is distorted (``distort_param``), mirrored, and gets its first size: ``resize_width`` x ``resize_height``,
    or ``resize_ratio`` times its own, or the short side ``short_size``.  With ``low_scale_ratio`` and
    ``high_scale_ratio``, or ``min_scale`` and ``max_scale`` of a box, it is made larger or smaller by a probability of
    ``multiscale_prob``, and cut around a box, or put into zeros, to ``crop_width`` x ``crop_height``, else
    ``crop_short_size`` and ``crop_long_size``, else ``short_size`` and ``long_size``, standing or lying as the first
    picture of the batch is, else to the size of that.  ``template_ratio``: one is drawn for each batch, and sides are
    so many times as large, in steps of 32 pixels.  Fields may reach out of it by ``anchor_ignore_margin_ratio`` halves
    of their sides, or have to have ``anchor_ignore_iou_thr`` of their area in it; those that do not, and those
    that are no box's and lie in what is not of interest by ``ignore_fg_threshold``, have the overlap 1.  ``shuffle``:
    "random", "random_aspect" (all that are higher than wide, then all others, or the other way round),
    "random_mix_aspect" (``mix_group_size`` of each in turn).  ``resize_param``, and the message's own ``scale``, are
    read by no code there.  Source: ``detection_data_layer.cpp`` of zhaoweicai/cascade-rcnn.
    """

    caffe_type = "DetectionData"
    top_count = (2, UNLIMITED)
    field, difficult = "detection_data_param", True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        section.ignore("resize_param")
        self.in_order()
        self.start(shuffle=False)
        self._read_order(section)
        fields = self._cell_fields(section, "stride")
        self._require_tops(len(fields), bool(section.output_gt_boxes))
        if section.cache_images:
            self.keep_files()
        cells, template = self._cells(section, fields), self._template(section)
        self.reader = BoxReader(self.who, self.setting, template, cells, self._scales(section))
        high, wide = template.first_size(*self.last, np.float32(1))
        if template.sides or template.crop_sides:  # announced as for a picture that is higher than wide
            high, wide = max(high, wide), min(high, wide)
        height, width = template.size(high, wide, np.float32(1))
        self.shapes = [(self.size, 3, height, width)]
        self.shapes += [(self.size, 6, *shape) for shape in cells.shapes((height, width))]
        self.shapes += [(1, 8, 1, 1)] * bool(section.output_gt_boxes)

    def _read_setting(self, section: Section) -> Setting:
        found = super()._read_setting(section)
        distort = section.distort_param if section.has("distort_param") else None
        return Setting(found.source, found.mean, found.scale, found.mirror, distort)

    def _read_order(self, section: Section) -> None:
        kind, group = str(section.shuffle), int(section.mix_group_size)
        if not section.has("shuffle"):
            return
        if kind not in ORDERS or group < 1:
            raise self.error(
                f"{self.field} has shuffle '{kind}' and mix_group_size {group}, expected one of {', '.join(ORDERS)}, "
                "and a positive number"
            )
        if kind == "random":
            self.start(shuffle=True)
            return
        high = np.array([one.size[1] >= one.size[2] for one in self.pictures])
        self.order = AspectOrder(high, self.seed, group if kind == "random_mix_aspect" else 0)

    def _cells(self, section: Section, fields: Sequence[tuple[int, int, int]]) -> Cells:
        if not section.fg_threshold > 0:
            raise self.error(f"{self.field}.fg_threshold is {section.fg_threshold:g}, expected a positive number")
        margin, inside = section.optional("anchor_ignore_margin_ratio"), section.optional("anchor_ignore_iou_thr")
        return Cells(
            fields,
            float(section.fg_threshold),
            float(section.ignore_fg_threshold),
            (float(section.min_gt_width), float(section.min_gt_height)),
            float(section.pickup_iou_thr),
            pixel=True,
            margin=margin,
            inside=inside,
        )

    def _template(self, section: Section) -> Template:
        """The sizes, which exclude each other as there."""
        resize, crop = (
            self.both(section, "resize_height", "resize_width"),
            self.both(section, "crop_height", "crop_width"),
        )
        sides, crops = (
            self.both(section, "short_size", "long_size"),
            self.both(section, "crop_short_size", "crop_long_size"),
        )
        ratio: float | None = section.optional("resize_ratio")
        given = [name for name, one in (("resize", resize), ("ratio", ratio), ("short", sides)) if one is not None]
        if len(given) > 1 or (crop and crops):
            raise self.error(
                f"{self.field} has several of resize_width, resize_ratio and short_size, or crop_width and "
                "crop_short_size, expected one"
            )
        for name, found in (("short_size", sides), ("crop_short_size", crops)):
            if found is not None and found[0] >= found[1]:
                raise self.error(f"{self.field}.{name} is {found[0]}, expected less than the long size {found[1]}")
        ratios = tuple(map(float, section.template_ratio))
        if not all(0 < one < math.inf for one in (*ratios, 1 if ratio is None else ratio)):
            raise self.error(
                f"{self.field} has template_ratio {list(ratios)} and resize_ratio {ratio}, expected positive"
            )
        return Template(resize, ratio, sides, crop, crops, ratios)

    def _scales(self, section: Section) -> Scales | None:
        ratios, sizes = (
            (float(section.value(low)), float(section.value(high))) if section.has(low) and section.has(high) else None
            for low, high in (("low_scale_ratio", "high_scale_ratio"), ("min_scale", "max_scale"))
        )
        chance, aspects = float(section.multiscale_prob), self._aspects(section)
        found = ratios or sizes
        if ratios and sizes:
            raise self.error(f"{self.field} has low_scale_ratio and min_scale, expected one of them")
        if found is None:
            return None
        if not 0 < found[0] <= found[1] < math.inf or not 0 <= chance <= 1:
            raise self.error(
                f"{self.field} has scales {found[0]:g} to {found[1]:g} and multiscale_prob {chance:g}, expected "
                "positive numbers in order, and 0 to 1"
            )
        return Scales(*found, sizes is not None, chance, aspects)


@register(dialect="cascade")
class EvalData(_BoxData):
    """Batches of pictures to test on, with boxes of ground truth and their sizes.

    Tops: (batch, 3, height, width), [G, 8, 1, 1] (item, x1, y1, x2, y2, class, ignored, difficult), one row of -1
    without any, and heights and widths (batch, 2, 1, 1).  Pictures get ``resize_width`` x ``resize_height``, or the
    short side ``short_size`` and at most ``long_size`` for either; without the former a batch has one picture.  All
    sides are rounded to 32 pixels.  Source: ``eval_data_layer.cpp`` of zhaoweicai/cascade-rcnn.
    """

    caffe_type = "EvalData"
    top_count = (2, 3)
    field, difficult = "eval_data_param", True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section(self.field)
        self.in_order()
        self.start(shuffle=False)
        resize, sides = (
            self.both(section, "resize_height", "resize_width"),
            self.both(section, "short_size", "long_size"),
        )
        if resize is None and self.size != 1:
            raise self.error(
                f"{self.field}.batch_size is {self.size}, expected 1 without resize_width and resize_height"
            )
        self.reader = reader = EvalReader(self.who, self.setting, resize, sides)
        size = reader.size(*self.last) if resize else (sides[1], sides[0]) if sides else self.last
        shapes: list[Shape] = [(self.size, 3, *size), (1, 8, 1, 1), (self.size, 2, 1, 1)]
        self.shapes = shapes[: len(params.tops)]

    def _read_setting(self, section: Section) -> Setting:
        found = super()._read_setting(section)
        return Setting(found.source, found.mean, found.scale)  # mirror is read by no code there
