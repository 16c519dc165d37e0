"""MultiBoxLoss as loops that follow weiliu89/caffe's bbox_util.cpp and multibox_loss_layer.cpp, line by line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from test_detection_output import _decode, jaccard

f32 = np.float32
Boxes = list[list[np.float32]]


def encode(prior: np.ndarray, variance: np.ndarray, kind: str, in_target: bool, box: np.ndarray) -> list[float]:
    """EncodeBBox."""
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if kind == "CORNER":
        code = [box[i] - prior[i] for i in range(4)]
    elif kind == "CORNER_SIZE":
        code = [(box[i] - prior[i]) / (w, h)[i % 2] for i in range(4)]
    else:
        bw, bh = box[2] - box[0], box[3] - box[1]
        x, y = (prior[0] + prior[2]) / 2, (prior[1] + prior[3]) / 2
        code = [((box[0] + box[2]) / 2 - x) / w, ((box[1] + box[3]) / 2 - y) / h, math.log(bw / w), math.log(bh / h)]
    return code if in_target else [code[i] / variance[i] for i in range(4)]


def match(gts: list[dict[str, Any]], boxes: Boxes, label: int, given: dict[str, Any]) -> tuple[list[int], list[float]]:
    """MatchBBox."""
    found, best = [-1] * len(boxes), [0.0] * len(boxes)
    indices = [g for g in range(len(gts)) if label == -1 or gts[g]["label"] == label]
    if not indices:
        return found, best
    table: dict[int, dict[int, float]] = {}
    for i, box in enumerate(boxes):
        if given.get("inside_only") and any(side < 0 or side > 1 for side in box):
            found[i] = -2
            continue
        for j, g in enumerate(indices):
            overlap = jaccard(box, gts[g]["box"])
            if overlap > 1e-6:
                best[i] = max(best[i], overlap)
                table.setdefault(i, {})[j] = overlap
    pool = list(range(len(indices)))
    while pool:
        top_i, top_j, top = -1, -1, -1.0
        for i in sorted(table):
            if found[i] != -1:
                continue
            for j in pool:
                if j in table[i] and table[i][j] > top:
                    top_i, top_j, top = i, j, table[i][j]
        if top_i == -1:
            break
        found[top_i], best[top_i] = indices[top_j], top
        pool.remove(top_j)
    if given.get("match_type", "PER_PREDICTION") == "PER_PREDICTION":
        for i in sorted(table):
            if found[i] != -1:
                continue
            top_j, top = -1, -1.0
            for j in range(len(indices)):
                overlap = table[i].get(j, -2.0)
                if overlap >= f32(given.get("overlap", 0.5)) and overlap > top:
                    top_j, top = j, overlap
            if top_j != -1:
                found[i], best[i] = indices[top_j], top
    return found, best


def _size(box: Any) -> float:
    return 0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def _nms(boxes: Boxes, scores: list[float], threshold: float, top_k: int) -> list[int]:
    """ApplyNMS."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    if -1 < top_k < len(order):
        order = order[:top_k]
    kept: list[int] = []
    while order:
        first = order.pop(0)
        if _size(boxes[first]) < 1e-5:
            continue
        kept.append(first)
        if -1 < top_k <= len(kept):
            break
        order = [
            other
            for other in order
            if _size(boxes[other]) >= 1e-5 and not jaccard(boxes[first], boxes[other]) > f32(threshold)
        ]
    return kept


def multibox(
    loc: np.ndarray, conf: np.ndarray, priors: np.ndarray, truth: np.ndarray, given: dict[str, Any]
) -> tuple[float, list[list[int]], list[list[int]]]:
    """Forward_cpu: the loss; of each image the matches of kind -1 (where locations are shared), and the negatives."""
    classes, share, background = given["classes"], given.get("share", True), given.get("background", 0)
    kind, in_target = given.get("kind", "CORNER"), given.get("in_target", False)
    mining = given.get("mining", "MAX_NEGATIVE")
    boxes, variances = priors.reshape(2, -1, 4)
    count = len(boxes)
    gts: dict[int, list[dict[str, Any]]] = {}
    for row in truth.reshape(-1, 8):
        if int(row[0]) == -1 or (not given.get("difficult", True) and row[7]):
            continue
        gts.setdefault(int(row[0]), []).append({"label": int(row[1]), "box": list(row[3:7])})
    codes = loc.reshape(len(loc), count, -1, 4)
    scores = conf.reshape(len(conf), count, classes)

    def decoded(image: int, c: int) -> Boxes:
        return [_decode(boxes[p], variances[p], kind, in_target, codes[image, p, c]) for p in range(count)]

    def refined(image: int) -> Boxes:
        """RefineDet's priors of an image: given["moved"] decoded against the priors of all."""
        if "moved" not in given:
            return list(boxes)
        moved = given["moved"].reshape(len(loc), count, 4)[image]
        return [_decode(boxes[p], variances[p], kind, in_target, moved[p]) for p in range(count)]

    all_matches: list[dict[int, list[int]]] = []
    all_best: list[dict[int, list[float]]] = []
    for image in range(len(loc)):
        matches: dict[int, list[int]] = {}
        best: dict[int, list[float]] = {}
        if image in gts:
            if not given.get("use_prior", True):
                for c in range(1 if share else classes):
                    label = -1 if share else c
                    if not share and label == background:
                        continue
                    matches[label], best[label] = match(gts[image], decoded(image, c), label, given)
            else:
                found, overlap = match(gts[image], [list(box) for box in refined(image)], -1, given)
                if share:
                    matches[-1], best[-1] = found, overlap
                else:
                    for c in range(classes):
                        if c != background:
                            matches[c] = [g if g > -1 and gts[image][g]["label"] == c else -1 for g in found]
                            best[c] = overlap
        all_matches.append(matches)
        all_best.append(best)
    negatives = _mined(given, scores, codes, boxes, variances, gts, all_matches, all_best, decoded)
    matched = sum(g > -1 for matches in all_matches for found in matches.values() for g in found)
    places = [refined(image) for image in range(len(loc))]
    location = sum(
        value
        for image, matches in enumerate(all_matches)
        for label, found in matches.items()
        for p, g in enumerate(found)
        if g > -1
        for value in _location(
            given, places[image][p], variances[p], codes[image, p, 0 if share else label], gts[image][g]
        )
    )
    confidence = _confidence(given, scores, gts, all_matches, negatives, mining)
    sizes = {"FULL": len(loc) * count, "VALID": matched, "BATCH_SIZE": len(loc), "NONE": 1}
    divisor = max(1, sizes[given.get("normalization", "VALID")])
    loss = given.get("loc_weight", 1.0) * location / divisor + confidence / divisor
    return loss, [matches.get(-1, []) for matches in all_matches], negatives


def _location(
    given: dict[str, Any], prior: np.ndarray, variance: np.ndarray, code: np.ndarray, gt: dict[str, Any]
) -> list[float]:
    """EncodeLocPrediction, and the loss of each coordinate."""
    kind, in_target = given.get("kind", "CORNER"), given.get("in_target", False)
    target = encode(prior, variance, kind, in_target, gt["box"])
    predicted = [float(value) for value in code]
    if given.get("inside"):
        box = prior if given.get("use_prior", True) else _decode(prior, variance, kind, in_target, code)
        predicted = [target[i] if box[i] < 0 or box[i] > 1 else predicted[i] for i in range(4)]
    if in_target:
        predicted = [predicted[i] / variance[i] for i in range(4)]
        target = [target[i] / variance[i] for i in range(4)]
    differences = [abs(a - b) for a, b in zip(predicted, target, strict=True)]
    if given.get("l2"):
        return [d * d / 2 for d in differences]
    return [d * d / 2 if d < 1 else d - 0.5 for d in differences]


def _class_loss(given: dict[str, Any], row: np.ndarray, label: int) -> float:
    """ComputeConfLoss of one prior."""
    row = row.astype(np.float64)
    if given.get("logistic"):
        return sum(
            -x * (float(c == label) - (x >= 0)) + math.log(1 + math.exp(x - 2 * x * (x >= 0)))
            for c, x in enumerate(map(float, row))
        )
    shifted = np.exp(row - row.max())
    return -math.log(max(shifted[label] / shifted.sum(), 1.17549435e-38))


def _mined(  # noqa: PLR0913 - as the original's
    given: dict[str, Any], scores: Any, codes: Any, boxes: Any, variances: Any, gts: Any, all_matches: Any,
    all_best: Any, decoded: Any,
) -> list[list[int]]:  # fmt: skip
    """MineHardExamples; changes the matches."""
    mining = given.get("mining", "MAX_NEGATIVE")
    negatives: list[list[int]] = [[] for _ in all_matches]
    if mining == "NONE":
        return negatives
    for image, matches in enumerate(all_matches):
        if -1 not in matches:
            continue
        found, best = matches[-1], all_best[image][-1]
        losses = []
        for p, g in enumerate(found):
            label = gts[image][g]["label"] if g > -1 else given.get("background", 0)
            loss = _class_loss(given, scores[image, p], label)
            if mining == "HARD_EXAMPLE" and g > -1:
                loss += sum(_location(given, boxes[p], variances[p], codes[image, p, 0], gts[image][g]))
            losses.append(loss)
        hard = mining == "HARD_EXAMPLE"
        eligible = [
            p for p in range(len(found)) if hard or (found[p] == -1 and best[p] < f32(given.get("neg_overlap", 0.5)))
        ]
        if "objects" in given:
            table = given["objects"].reshape(len(all_matches), -1, 2)
            eligible = [p for p in eligible if table[image, p, 1] >= f32(given["objectness"])]
        positives = sum(g > -1 for g in found)
        wanted = given.get("samples", 64) if hard else int(positives * given.get("ratio", 3.0))
        wanted = min(wanted, len(eligible))
        if given.get("nms", 0) > 0:
            looked = boxes if given.get("nms_of_priors") else decoded(image, 0)
            kept = _nms([looked[p] for p in eligible], [losses[p] for p in eligible], given["nms"], given["top_k"])
            selected = {eligible[k] for k in kept[:wanted]}
        else:
            selected = set(sorted(eligible, key=lambda p: -losses[p])[:wanted])
        for p, g in enumerate(found):
            if g > -1:
                if hard and p not in selected:
                    found[p] = -1
            elif g == -1 and p in selected:
                negatives[image].append(p)
    return negatives


def _confidence(given: Any, scores: Any, gts: Any, all_matches: Any, negatives: Any, mining: str) -> float:
    """EncodeConfPrediction and the loss of the inner layer."""
    classes, background = given["classes"], given.get("background", 0)
    total = scores.shape[1]
    rows: list[np.ndarray] = []
    if mining == "NONE":
        rows = list(scores.reshape(-1, classes))
        targets = np.full((len(rows), classes if given.get("logistic") else 1), float(background))
    wanted: list[Any] = []
    for image, matches in enumerate(all_matches):
        if image not in gts:
            continue
        for found in matches.values():
            for p, g in enumerate(found):
                if g <= -1:
                    continue
                label = background + 1 if given.get("agnostic") else gts[image][g]["label"]
                if mining != "NONE":
                    rows.append(scores[image, p])
                    wanted.append(label)
                elif given.get("logistic"):
                    targets.reshape(-1)[image * total + p * classes + label] = 1
                else:
                    targets[image * total + p] = label
        for p in negatives[image]:
            rows.append(scores[image, p])
            wanted.append(background)
    if given.get("logistic"):
        if mining != "NONE":
            targets = np.full((len(rows), classes), float(background))
            for target, label in zip(targets, wanted, strict=True):
                if label < classes:
                    target[label] = 1
        return sum(
            -x * (t - (x >= 0)) + math.log(1 + math.exp(x - 2 * x * (x >= 0)))
            for row, target in zip(rows, targets, strict=True)
            for x, t in zip(map(float, row), target, strict=True)
        )
    labels = wanted if mining != "NONE" else [int(target[0]) for target in targets]
    return sum(_class_loss({}, row, label) for row, label in zip(rows, labels, strict=True))
