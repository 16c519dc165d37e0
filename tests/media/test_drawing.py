"""Boxes and names in pictures."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.media.drawing import LEAST_SIDE, class_color, draw_boxes, draw_text

GREY = np.full((480, 640, 3), 90, np.uint8)


def test_the_frame_of_a_box_is_drawn_on_its_pixels_and_nothing_else_changes():
    drawn = draw_boxes(GREY, np.array([[100, 200, 300, 400]]), ["chair"], [0.5])
    color = class_color("chair")
    for x, y in ((100, 200), (300, 200), (100, 400), (300, 400), (200, 400), (100, 300)):
        assert tuple(drawn[y, x]) == color
    assert (drawn[250:390, 110:290] == 90).all()
    assert (drawn[410:] == 90).all()
    assert (drawn[:, 310:] == 90).all()
    assert (GREY == 90).all()


def test_a_box_of_the_whole_picture_keeps_its_name_inside():
    drawn = draw_boxes(GREY, np.array([[0, 0, 639, 479]]), ["night-stand"], [0.25])
    strip = (drawn == class_color("night-stand")).all(2)
    assert strip[:12, :60].mean() > 0.3
    assert not np.array_equal(drawn[:30], draw_boxes(GREY, np.array([[0, 0, 639, 479]]), ["night-stand"], [0.75])[:30])


@pytest.mark.parametrize("box", [[-50, -50, 20, 20], [600, 470, 900, 900], [700, 500, 800, 600], [639, 479, 639, 479]])
@pytest.mark.parametrize("size", [(480, 640), (60, 40), (1, 1), (33, 900), (2000, 1500)])
def test_odd_boxes_in_odd_pictures(box, size):
    picture = np.zeros((*size, 3), np.uint8)
    drawn = draw_boxes(picture, np.array([box], np.float32), ["a class with a very long name indeed: schrank, gross"])
    assert drawn.any()
    assert drawn.shape[0] % size[0] == 0
    assert drawn.shape[0] // size[0] == drawn.shape[1] // size[1]
    assert min(drawn.shape[:2]) >= LEAST_SIDE


def test_no_boxes_and_no_enlarging():
    assert np.array_equal(draw_boxes(GREY, np.zeros((0, 4)), []), GREY)
    small = np.full((20, 30, 3), 7, np.uint8)
    assert draw_boxes(small, np.zeros((0, 4)), [], enlarge=False).shape == small.shape
    assert draw_boxes(small, np.zeros((0, 4)), []).shape == (320, 480, 3)


def test_the_surest_is_on_top():
    boxes = np.array([[100, 100, 200, 200], [100, 100, 200, 200]])
    for scores in ([0.9, 0.1], [0.1, 0.9]):
        names = ["sofa", "toilet"] if scores[0] > scores[1] else ["toilet", "sofa"]
        assert tuple(draw_boxes(GREY, boxes, names, scores)[200, 150]) == class_color("sofa")


def test_colors_are_of_the_name_and_differ():
    names = ["bathtub", "bed", "bookshelf", "box", "chair", "counter", "desk", "door", "dresser", "lamp", "sofa"]
    assert len({class_color(name) for name in names}) == len(names)
    assert class_color("bed") == class_color("bed")


def test_letters_that_are_not_there():
    one, other = GREY.copy(), GREY.copy()
    draw_text(one, "Stühle", (10, 100), (255, 255, 255), 1.0)
    draw_text(other, "St?hle", (10, 100), (255, 255, 255), 1.0)
    assert np.array_equal(one, other)
    assert (one != GREY).any()
