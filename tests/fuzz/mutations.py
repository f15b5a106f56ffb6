"""Random damage to saved models, images and audio."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

__all__ = ["mutate_file", "mutate_folder"]

# What JSON may hold in the wrong place.
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 5, 0.5, 1.0, -0.0, 1e-300, 1e300, 1e-6, 100, 1000, 20_000),
    *(10**6, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**12, 10**400, "", "x", "no", "\0"),
    *("../x", "/etc/passwd", "\ud800", "auto", "gated", [], [0], [None], ["x"], [[]], {}),
    *({"x": 1}, float("nan"), float("inf"), float("-inf"), "a" * 10_000, [1] * 1000),
]
_BYTES = [b"\0", b"\xff", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"1e999", b"NaN", b"null"]
_BYTES += [b"\xed\xa0\x80", b"\x80", b"9" * 30, b"[" * 3000, b" " * 100]


def mutate_folder(chance: random.Random, folder: Path) -> str:
    """Damage one or two files of a saved model; return what was damaged, "weights" if only the
    values of weights were among what is read for answers, so that others are right."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    done = set()
    # Each file once: what is damaged may no longer be JSON.
    for path in chance.sample(files, chance.choice([1, 1, 1, 2])):
        if chance.random() < 0.04:
            done.add(_replace(chance, path, files))
        elif path.suffix == ".json" and chance.random() < 0.8:
            done.add(_mutate_json(chance, path))
        elif path.suffix == ".safetensors" and chance.random() < 0.8:
            done.add(_mutate_tensors(chance, path))
        else:
            content = path.read_bytes()
            path.write_bytes(damaged := mutate_bytes(chance, content))
            is_header = path.suffix == ".json" or _describe(content) != _describe(damaged)
            done.add(f"bytes of {path.name}" if is_header else "weights")
    read = {what for what in done if "training.safetensors" not in what}
    return "weights" if read == {"weights"} else "; ".join(sorted(done))


def _describe(content: bytes) -> object:
    """What the header of a safetensors file says; the spaces at its end say nothing."""
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    try:
        return json.loads(header)
    except ValueError:
        return header


def mutate_file(chance: random.Random, content: bytes) -> bytes:
    """Damage an image or a clip; the header more often than the rest."""
    for _ in range(chance.randrange(1, 4)):
        stop = len(content) if chance.random() < 0.4 else min(len(content), 100)
        at = chance.randrange(max(1, stop))
        kind = chance.randrange(6)
        if kind == 0:
            content = content[:at] + chance.randbytes(chance.randrange(1, 5)) + content[at:]
        elif kind == 1:
            content = content[:at] + content[at + chance.choice([1, 2, 4, 50]) :]
        elif kind == 2 and chance.random() < 0.3:
            content = content[:at]
        elif kind == 3:
            number = chance.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 10**6])
            order = chance.choice("<>")
            packed = struct.pack(f"{order}I", number)[:: chance.choice([1, -1])]
            content = content[:at] + packed + content[at + 4 :]
        else:
            bit = bytes([content[at] ^ (1 << chance.randrange(8))]) if content else b""
            content = content[:at] + bit + content[at + 1 :]
    return content


def mutate_bytes(chance: random.Random, content: bytes) -> bytes:
    """Insert, remove, double or replace a few bytes, or cut the end off."""
    for _ in range(chance.randrange(1, 3)):
        at = chance.randrange(len(content) + 1)
        stop = at + chance.choice([0, 1, 1, 4, 20])
        piece = chance.choice([b"", chance.choice(_BYTES), content[at : at + 20] * 2])
        content = content[:at] + piece + content[stop:]
        if chance.random() < 0.1:
            content = content[:at]
    return content


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a JSON value; of long lists and objects only some."""
    found = [path] if path else []
    if isinstance(value, dict):
        children: list[Any] = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        return found
    for key, child in children[:12] + children[-2:]:
        found += _paths(child, (*path, key))
    return found


def _mutate_json(chance: random.Random, path: Path) -> str:
    content = json.loads(path.read_text("utf-8"))
    places = _paths(content)
    if not places or chance.random() < 0.02:
        path.write_text(json.dumps(chance.choice(_VALUES)), "utf-8")
        return f"all of {path.name}"
    # The shorter the path, the more it decides.
    place = min(chance.sample(places, min(2, len(places))), key=len)
    part = content
    for key in place[:-1]:
        part = part[key]
    key, kind = place[-1], chance.randrange(8)
    if kind == 0:
        del part[key]
    elif kind == 1 and isinstance(part, dict):
        part[chance.choice(["x", "_class_name", "auto_map", "kind", key])] = chance.choice(_VALUES)
    elif kind == 2 and isinstance(part[key], int | float) and not isinstance(part[key], bool):
        part[key] = chance.choice([part[key] + 1, -part[key], part[key] * 1000, part[key] / 2])
    elif kind == 3:
        part[key] = [part[key]] * chance.choice([1, 2, 100])
    else:
        part[key] = chance.choice(_VALUES)
    path.write_text(json.dumps(content), "utf-8")
    return f"{path.name}: {'.'.join(map(str, place))}"


def _mutate_tensors(chance: random.Random, path: Path) -> str:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    body = content[8 + length :]
    if chance.random() < 0.4 and body:
        at = chance.randrange(len(body))
        piece = chance.choice([chance.randbytes(4), struct.pack("<f", chance.choice(
            [float("nan"), float("inf"), 3e38, -3e38, 1e20, 0.0, 1.0]))])  # fmt: skip
        at -= at % 4
        path.write_bytes(content[: 8 + length] + body[:at] + piece + body[at + 4 :])
        return "weights"
    header = json.loads(content[8 : 8 + length])
    name = chance.choice(list(header))
    kind = chance.randrange(6)
    if kind == 0 or name == "__metadata__":
        header[chance.choice(["x", "__metadata__"])] = header.pop(name)
    elif kind == 1:
        del header[name]
    elif kind == 2:
        header[name]["dtype"] = chance.choice(["F64", "F16", "I8", "BF16", "I32", 5, "x"])
    elif kind == 3:
        header[name]["shape"] = chance.choice([[], [0], [2**40, 2**40], header[name]["shape"][::-1],
                                               [-1], ["x"], 5, [1.0]])  # fmt: skip
    elif kind == 4:
        header[name]["data_offsets"] = chance.choice(
            [[0, 0], [0, 2**62], [8, 4], "x", [0], [-8, 8]]
        )
    else:
        header[name] = chance.choice(_VALUES)
    text = json.dumps(header).encode()
    if chance.random() < 0.1:
        length = chance.choice([0, 2**63, len(text) + 1, len(text) * 2])
    else:
        length = len(text)
    path.write_bytes(struct.pack("<Q", length % 2**64) + text + body)
    return f"header of {path.name}"


def _replace(chance: random.Random, path: Path, files: list[Path]) -> str:
    """Replace a file by nothing, by an empty one, or by another one."""
    kind = chance.randrange(4)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        path.unlink()
        path.mkdir()
    else:
        other = chance.choice(files)
        path.write_bytes(other.read_bytes() if other.is_file() else b"")
    return f"{path.name} as a whole"
