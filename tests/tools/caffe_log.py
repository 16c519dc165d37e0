"""Reading logs as BVLC's ``parse_log.py`` does, written from the description of what it picks."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

ITERATION = re.compile(r"Iteration (\d+)")
TRAIN = re.compile(r"Train net output #(\d+): (\w+) = ([.\deE+-]+)")
TEST = re.compile(r"Test net output #(\d+): (\w+) = ([.\deE+-]+)")
RATE = re.compile(r"lr = ([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)")


def line_time(line: str, year: int = 2000) -> datetime:
    """glog's stamp: level, month (characters 1-2), day (3-4), then the time as the second word."""
    clock = datetime.strptime(line.split()[1], "%H:%M:%S.%f")
    return clock.replace(year=year, month=int(line[1:3]), day=int(line[3:5]))


def parse_log(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the train and the test table."""
    lines = text.splitlines()
    start = next(line_time(line) for line in lines if "Solving" in line)
    tables: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    iteration, rate = -1, float("nan")
    for line in lines:
        if match := ITERATION.search(line):
            iteration = int(match[1])
        if iteration < 0:
            continue
        seconds = (line_time(line) - start).total_seconds()
        if match := RATE.search(line):
            rate = float(match[1])
        for kind, pattern in (("train", TRAIN), ("test", TEST)):
            if match := pattern.search(line):
                rows = tables[kind]
                if not rows or rows[-1]["NumIters"] != iteration:
                    rows.append({"NumIters": iteration, "Seconds": seconds, "LearningRate": rate})
                rows[-1][match[2]] = float(match[3])
    for rows in tables.values():
        if len(rows) > 1:  # the first row comes before the first rate is known
            rows[0]["LearningRate"] = rows[1]["LearningRate"]
    return tables["train"], tables["test"]
