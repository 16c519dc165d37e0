"""Ways to damage a file, for the fuzzer."""

from __future__ import annotations

import random
import re

NUMBERS = (0, 1, 2, 127, 128, 16383, 65536, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**64 - 1)
WORDS = "0 -1 1 2 7 2147483647 4294967295 9223372036854775807 1e38 nan inf -0.5 true"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def lie(data: bytes, rng: random.Random) -> bytes:
    """Put a number (a varint, or four or eight bytes) in place of bytes or between them."""
    at, number = rng.randrange(len(data)), rng.choice(NUMBERS)
    size = rng.choice((4, 8))
    new = varint(number) if rng.random() < 0.6 else (number % 256**size).to_bytes(size, rng.choice(("little", "big")))
    return data[:at] + new + data[at + rng.choice((0, 1, len(new))) :]


def splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(other) + 1) for _ in range(2))
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[a:b] + data[at + rng.choice((0, b - a)) :]


def nest(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((3, 99, 101, 3000))
    if rng.random() < 0.5:
        return data + b"\x0b" * depth + b"\x0c" * rng.choice((0, depth))
    for _ in range(min(depth, 300)):
        data = rng.choice((b"\x0a", b"\x12", b"\x3a", b"\xa2\x06")) + varint(len(data)) + data
    return data


def mutate_binary(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return other
    kind = rng.randrange(10)
    if kind < 3:
        return flip(data, rng)
    if kind < 6:
        return lie(data, rng)
    if kind < 8:
        return splice(data, other, rng)
    if kind < 9:
        return nest(data, rng)
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 2, 16, 512)) :]


def mutate_text(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The same on the words of a prototxt."""
    if rng.random() < 0.15:
        return mutate_binary(data, other, rng)
    words = re.findall(r'"[^"\n]*"|[\w.+-]+|\s+|.', data.decode("utf-8", "replace"))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(words))
        kind = rng.randrange(8)
        numbers = [i for i, word in enumerate(words) if re.fullmatch(r"[-+\d][\w.+-]*", word)]
        if kind < 3 and numbers:
            words[rng.choice(numbers)] = rng.choice(WORDS.split())
        elif kind == 3:
            del words[at : at + rng.choice((1, 1, 3, 10))]
        elif kind == 4:
            words[at:at] = [" ", rng.choice(words), " "]
        elif kind == 5:
            swap = rng.randrange(len(words))
            words[at], words[swap] = words[swap], words[at]
        elif kind == 6:
            more = re.findall(r'"[^"\n]*"|[\w.+-]+|\s+|.', other.decode("utf-8", "replace"))
            start = rng.randrange(len(more))
            words[at:at] = [" ", *more[start : start + rng.choice((1, 4, 40))], " "]
        else:
            depth = rng.choice((2, 200, 3000))
            words[at:at] = [rng.choice(("layer {", "{", "<", "[", "net_param {", "-"))] * depth
        words = words or [" "]
    return "".join(words).encode()
