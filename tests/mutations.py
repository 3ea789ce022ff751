"""Mutations of files and texts that know the structure of what they break; see ``fuzz``."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import struct
import warnings
import zipfile

import numpy as np

from jaxsched.search import _fingerprint

# ------------------------------------------------------------------------------------ JSON values

DEEP: list = []
for _ in range(150):
    DEEP = [DEEP]
NASTY: list = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        0.5,
        -0.5,
        1e-320,
        1e308,
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
    ),
    *(2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400),
    *(
        "",
        "x",
        "0.1",
        "10%",
        "nan",
        "../outside",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "é\u202e学",
        "=1",
    ),
    *("9" * 5000, "\x1b]0;t\x07\r\n", "__class__", "float64", "Constant", "AutoDecay"),
    *([], {}, [None], [[]], [[1, 2], [3]], [0.1, "x"], [1, True], [[[1.0]]], DEEP, [0] * 3000),
    *({"type": "Constant", "value": 0.1}, {"type": "Nothing"}, {"float64": [1, 2]}, {"float64": 1}),
    *({"jaxsched": 1, "type": "share", "fraction": 0.1}, {"": 0}, {"jaxsched": 1}, {"a": {}}),
    *({"jaxsched": 1, "type": "Linear", "start": [0.1, 0.2], "end": 0, "steps": 3}, {"type": None}),
]


def nodes(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        yield from nodes(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def mutated_json(value, rng):
    """A copy with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        paths = list(nodes(value))
        path = rng.choice(paths)
        if not path:
            value = rng.choice(NASTY) if rng.random() < 0.05 else value
            continue
        parent, key = at(value, path[:-1]), path[-1]
        node, other = parent[key], copy.deepcopy(at(value, rng.choice(paths)))
        match rng.randrange(9):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[rng.choice(["", "x", "type", "value", "../x", "steps", "\ud800"])] = node
            case 1:
                parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(node))
            case 2 if isinstance(parent, dict):
                parent[f"{key}{rng.choice(['x', ' ', '/..'])}"] = parent.pop(key)
            case 3 if isinstance(node, (int, float)):
                parent[key] = rng.choice([-node, node + 1, node * 10, str(node), [node]])
            case 4:
                parent[key] = other
            case 5:
                parent[key] = rng.choice([[node], {"x": node}, [node, node], str(node)])
            case _:
                parent[key] = copy.deepcopy(rng.choice(NASTY))
    return value


def mutated_text(value, rng):
    """JSON, strict or not, with texts that only a parser sees."""
    text = json.dumps(mutated_json(value, rng) if rng.random() < 0.9 else value)
    at = [i for i, c in enumerate(text) if c in ':,"[{}]']
    where = rng.choice(at) if at else 0
    match rng.randrange(12):
        case 0:
            key = json.dumps(rng.choice(["type", "value", "steps", "name", "jaxsched"]))
            text = text.replace("{", "{" + key + ": 1, ", rng.randrange(1, 3))
        case 1:
            deep = rng.choice([100, 1000, 100_000])
            text = text.replace(": ", ": " + rng.choice(["[", '{"a":']) * deep, 1)
        case 2:
            text = text[:where]
        case 3:
            text = (
                text[:where]
                + rng.choice(["NaN", "1e999", "9" * 5000, "\\ud800", "\0"])
                + text[where:]
            )
        case 4:
            text = text[:where] + text[where + 1 :]
    return text


# --------------------------------------------------------------------------------------- archives


def taken_apart(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def put_together(members, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), io.BytesIO() as raw:
        warnings.simplefilter("ignore")  # of two members of one name
        with zipfile.ZipFile(raw, "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return raw.getvalue()


def npy(array):
    with io.BytesIO() as raw:
        np.lib.format.write_array(raw, array, allow_pickle=False)
        return raw.getvalue()


def opened(content):
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def mutated_bytes(data, rng):
    data = bytearray(data)
    where, length = rng.randrange(len(data) + 1), rng.choice([1, 2, 8, 100])
    match rng.randrange(9):
        case 0 | 1 | 2 if where < len(data):
            for _ in range(rng.choice([1, 1, 1, 2, 20])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 3:
            del data[where:]
        case 4:
            del data[where : where + length]
        case 5:
            data[where:where] = rng.choice([bytes(length), rng.randbytes(length)])
        case 6:
            data[where : where + length] = bytes(len(data[where : where + length]))
        case 7:
            other = rng.randrange(len(data) + 1)
            data[where : where + length] = data[other : other + length]
        case _:
            data = rng.choice(
                [data + data[:where], data[:where] + data, data[::-1], data + b"PK\5\6"]
            )
    return bytes(data)


def mutated_zip(data, rng):
    """Tricks of archives; what the members hold is not changed, or no digest is."""
    members = taken_apart(data)
    i, j = rng.randrange(len(members)), rng.randrange(len(members))
    name, content = members[i]
    match rng.randrange(9):
        case 0:
            members[i], members[j] = (name, members[j][1]), (members[j][0], content)
        case 1:
            del members[i]
        case 2:
            members.insert(j, (name, members[j][1]))
        case 3:
            names = [
                "../x.npy",
                "/etc/passwd",
                "index",
                ".npy",
                "é学.npy",
                "x" * 5000,
                "a\0.npy",
                "0.npy",
            ]
            members[i] = (rng.choice(names), content)
        case 4:
            members.append((rng.choice(["../../x", "extra.npy", "9999.npy"]), content))
        case 5:
            return put_together(members, rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
        case 6:  # another header of an array
            old = rng.choice([b"'shape': (", b"False", b"|u1", b"<f4", b"<i8", b"'descr'"])
            new = rng.choice([b"'shape': (9", b"True ", b"|O ", b"<f8", b"<U9", b"[(", b"-1"])
            members[i] = (name, content.replace(old, new, 1))
        case 7:
            members[i] = (name, mutated_bytes(content, rng))
        case _:  # sizes, methods and flags where the archive lists its members
            data = bytearray(data)
            mark, first, last = rng.choice(
                [(b"PK\1\2", 6, 46), (b"PK\3\4", 4, 30), (b"PK\5\6", 4, 22)]
            )
            found = data.find(mark)
            size = rng.choice([1, 2, 4])
            place = found + rng.randrange(first, last - size)
            number = rng.choice([0, 1, 255, 65535, 2**31, 2**32 - 1, rng.randrange(2**32)])
            data[place : place + size] = struct.pack("<I", number)[:size]
            return bytes(data)
    return put_together(members)


def forged(data, rng):
    """Another content with the right digests: what a program that means it could write."""
    members = dict(taken_apart(data))
    name = next((n for n in ("index.npy", "header.npy", "meta.npy") if n in members), None)
    stored = opened(members[name])
    text = str(stored) if name == "meta.npy" else stored.tobytes()[16 * (name == "index.npy") :]
    told = json.loads(text)
    kinds = told.get("arrays", {}) if isinstance(told, dict) else {}
    arrays = [n for n in members if n != name]
    if arrays and rng.random() < 0.3:
        i = rng.randrange(len(arrays))
        key = list(kinds)[i] if name == "index.npy" else arrays[i].removesuffix(".npy")
        old = opened(members[arrays[i]])
        if kinds:
            old = old.view(kinds[key]["dtype"]).reshape(kinds[key]["shape"])
        array = mutated_array(old, rng)
        if kinds:
            kinds[key], array = _fingerprint.pack(array)
        members[arrays[i]] = npy(array)
    else:
        told = mutated_json(told, rng)
    text = json.dumps(told).encode()
    if rng.random() < 0.05:
        text = mutated_text(told, rng).encode()
    if name == "index.npy":
        text = hashlib.blake2b(text, digest_size=16).digest() + text
    members[name] = npy(
        np.array(text.decode()) if name == "meta.npy" else np.frombuffer(text, np.uint8)
    )
    return put_together(members.items())


def mutated_array(array, rng):
    array = np.array(array)
    match rng.randrange(7):
        case 0 if array.dtype.kind != "f":
            return array.astype(
                rng.choice(["float64", "int32", "uint8", "bool", "complex64", "U3"])
            )
        case 1:
            return array.reshape(rng.choice([(-1,), (1, *array.shape), (*array.shape, 1)]))
        case 2:
            return array[..., :-1] if array.ndim else array
        case 3:
            return np.concatenate([array, array]) if array.ndim else array
        case 4:
            return np.zeros(rng.choice([(), (0,), (2, 0, 3), (1, 1, 1)]), array.dtype)
        case 5:
            return array[::-1].copy() if array.ndim else array
    flat = array.reshape(-1)
    for _ in range(min(flat.size, rng.choice([1, 3, 100]))):
        with np.errstate(all="ignore"):
            wild = (
                rng.choice([0, -1, 1, 2**62, -(2**62), 10**6]),
                rng.choice([math.nan, math.inf, -1e30]),
            )
            flat[rng.randrange(flat.size)] = wild[array.dtype.kind == "f"]
    return flat.reshape(array.shape)
