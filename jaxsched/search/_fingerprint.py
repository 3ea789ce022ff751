"""A digest of a program's computation, and texts of Python values, equal in every process.

The text of a jaxpr is not enough: it omits the constants of inner jaxprs (of a jitted function, of
a branch), shortens arrays, and holds addresses.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CellType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.typing import ArrayLike

from jaxsched.recipes._share import share

_ADDRESS = re.compile(r" ?(at )?0x[0-9a-f]+")  # another one in each process
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_PRIVATE = re.compile(r"\bjaxsched\.(?:[a-z]\w*\.)*_\w+\.")
_DEEP = 12  # levels of nested values; deeper ones count by their type only


def fingerprint_of(*values: object) -> str:
    """The digest of values: arrays, numbers, texts, containers, functions and objects of these."""
    return Walk().of(values)


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The equations of a jaxpr, and of all jaxprs inside."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def opened(jaxpr: Jaxpr | ClosedJaxpr) -> Jaxpr:
    """A jaxpr without its constants."""
    return cast(Jaxpr, getattr(jaxpr, "jaxpr", jaxpr))


def aval_of(atom: Var | Literal) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an equation's input or output."""
    return cast(jax.ShapeDtypeStruct, atom.aval)  # it has at least these attributes


def digest(*parts: str | bytes | ArrayLike) -> str:
    """A short digest of texts, bytes and arrays."""

    def data(part: str | bytes | ArrayLike) -> str | bytes:
        if isinstance(part, (str, bytes)):
            return part
        kind, array = pack(part)
        return json.dumps(kind).encode() + array.tobytes()

    return _digest(*map(data, parts))


def pack(value: ArrayLike) -> tuple[dict[str, Any], np.ndarray]:
    """An array as bytes, with the dtype, the shape and the digest to make it again."""
    numbers, key = without_key_type(value)
    array = np.asarray(jax.device_get(numbers))
    data = array.tobytes()
    kind = {"dtype": array.dtype.name, "shape": list(array.shape), "key": key}
    kind["blake2b"] = hashlib.blake2b(data, digest_size=16).hexdigest()
    return kind, np.frombuffer(data, np.uint8)


def without_key_type(value: Any) -> tuple[Any, str | None]:
    """Random keys as their numbers, with their kind; any other array as it is, with ``None``."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(value), str(jax.random.key_impl(value))
    return value, None


def with_key_type(numbers: Any, key: str | None) -> Any:
    """The array that ``without_key_type`` turned into these numbers."""
    return numbers if key is None else jax.random.wrap_key_data(jnp.asarray(numbers), impl=key)


def plain(value: object, depth: int = 0) -> str:
    """A text of a value, without addresses: a class or function by its module and name.

    An object without a ``__repr__`` of its class shows its public attributes. Functions that share
    a name (lambdas, closures) or hold values (``partial``) and arrays have a digest in it.
    """
    if type(value) in _SCALARS:
        return repr(value)
    if isinstance(value, (np.ndarray, jax.Array)) and np.ndim(value):
        return f"{value.dtype}{list(value.shape)}#{fingerprint_of(value)[:8]}"
    if _is_code(value):
        name = name_of(value)
        shared = not isinstance(value, (type, types.ModuleType)) and (
            "<" in name or isinstance(value, (functools.partial, types.MethodType))
        )
        return f"{name}#{fingerprint_of(value)[:8]}" if shared else name
    if depth < _DEEP:  # else the text of Python, which ends where a value holds itself
        deeper = [plain(v, depth + 1) for v in _items_of(value)]
        if type(value) in (set, frozenset):
            return "{" + ", ".join(sorted(deeper)) + "}"
        if type(value) is tuple:
            return f"({', '.join(deeper)}{',' * (len(deeper) == 1)})"
        if type(value) is list:
            return f"[{', '.join(deeper)}]"
        if isinstance(value, dict):
            keys = [plain(k, depth + 1) for k in value]
            return "{" + ", ".join(f"{k}: {v}" for k, v in zip(keys, deeper, strict=True)) + "}"
    text = _printed(value)
    # An address shows that the class, or the class of a part, has no text of its own.
    if not _ADDRESS.search(text):
        shortened = "..." in text  # as NumPy's arrays are
        return f"{text}#{fingerprint_of(value)[:8]}" if shortened else text
    if depth == _DEEP:
        return name_of(type(value))
    fields = ", ".join(f"{k}={plain(v, depth + 1)}" for k, v in _fields_of(value).items())
    return f"{name_of(type(value))}({fields})"


def _printed(value: object) -> str:
    """Its text; if a user's own ``__repr__`` fails, the text of ``object``."""
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def label(value: object) -> str:
    """A value as a part of a name, in one line: a text as it is, a share as 10%, or ``plain``."""
    return str(value) if isinstance(value, (str, share)) else " ".join(plain(value).split())


def labelled(values: Mapping[str, object]) -> dict[str, str]:
    """Name -> ``label``."""
    return {name: label(value) for name, value in values.items()}


def labels(values: Iterable[object]) -> dict[str, str]:
    """``plain`` -> ``label``, or ``plain`` for values that read alike, such as None and "None"."""
    short = {plain(value): label(value) for value in values}
    count = Counter(short.values())
    return {text: shown if count[shown] == 1 else text for text, shown in short.items()}


def public(text: str) -> str:
    """A text without our private modules: their names may differ between versions."""
    return _PRIVATE.sub("jaxsched.", text)


def name_of(value: object) -> str:
    """A class, function or module by its module and name."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, functools.partial):
        return f"partial({name_of(value.func)})"
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    module = getattr(value, "__module__", None)
    # A script is another module in a spawned process than in the one that was started.
    known = module not in (None, "builtins", "__main__", "__mp_main__")
    return public(f"{module}.{name}") if known else str(name)


class Walk:
    """Digests of values. For a closed jaxpr: all operations, parameters, constants and literals.

    Two traces of the same computation agree, in any process; one other bit in the data that a
    function closes over, however deep, makes another digest. Names of variables don't matter, nor
    does the size of a mesh, which may change when a sweep goes on. A callback on the host is known
    by its code and its closure, not by other things that it reads.

    A repeated value, such as a jaxpr, is not traversed twice. No arrays are kept alive.
    """

    # A digest covers the type's name and the parts of a value. Most parts are digests
    # themselves: a tree of hashes, where a jaxpr called twice is one branch. Stores and
    # results on disk name their runs by it. So a change here, for any value that a task may hold,
    # makes all its stored runs unknown, and they are trained again.

    def __init__(self) -> None:
        # By ``id``, which Python gives to another value once the first is gone: so each with a
        # function that returns the value, or None. For an array it is a weak reference, since a
        # walk lives as long as a traced task. A jaxpr is small, and held.
        self._known: dict[int, tuple[Callable[[], object], str]] = {}
        self._open: list[int] = []
        self._deep = 0  # values that are open, since the innermost jaxpr
        self._lock = threading.RLock()  # another thread's open values are not met again

    def of(self, value: object) -> str:
        """The digest of a value; of one that holds itself, its type stands for it within."""
        if type(value) in _SCALARS:
            text = repr(value)
            return (_cached_digest if len(text) < 64 else _digest)(type(value).__name__, text)
        remembered, known = self._known.get(id(value), (None, ""))
        if remembered is not None and remembered() is value:
            return known
        with self._lock:
            # A hundred levels take some of Python's thousand frames each. Jaxprs begin anew, since
            # a number behind many jitted functions must count.
            if id(value) in self._open or self._deep > 100:
                return _digest("again", type(value).__qualname__)
            self._open.append(id(value))
            deep, self._deep = self._deep, 0 if hasattr(value, "eqns") else self._deep + 1
            digest = _digest(type(value).__qualname__, *self._parts_of(value))
            self._open.pop()
            self._deep = deep
        if isinstance(value, (np.ndarray, jax.Array)):
            self._known[id(value)] = (weakref.ref(value), digest)
        elif hasattr(value, "eqns"):
            self._known[id(value)] = (lambda: value, digest)
        return digest

    def _parts_of(self, value: object) -> Iterable[str | bytes | memoryview]:
        """The parts of a value, as texts."""
        # The order matters: many values answer to several of these questions.
        if isinstance(value, jax.core.Tracer):
            return [_aval_text(value.aval)]
        if _is_code(value):  # before arrays: a class of arrays has their attributes
            return self._code_parts(value)
        if isinstance(value, (jax.Array, jax.ShapeDtypeStruct)) or (
            hasattr(value, "__array__") and hasattr(value, "dtype")
        ):
            return self._array_parts(value)
        if hasattr(value, "eqns"):
            return self._jaxpr_parts(value)
        if isinstance(value, (Mesh, AbstractMesh)):  # a sweep may go on on a mesh of another size
            return map(str, value.axis_names)
        if isinstance(value, NamedSharding):
            return [str(value.spec), str(value.memory_kind), *map(str, value.mesh.axis_names)]
        if isinstance(value, (set, frozenset)):  # their order is this process's own
            return sorted(map(self.of, value))
        if isinstance(value, (list, tuple, Mapping)):
            keys = map(self.of, value) if isinstance(value, Mapping) else ()
            return [*keys, *map(self.of, _items_of(value))]
        text = _ADDRESS.sub("", _printed(value))
        package = type(value).__module__.partition(".")[0]
        if package in ("jax", "jaxlib") and not dataclasses.is_dataclass(value):
            return [text]  # JAX's other attributes belong to this process
        # A callback may call an object.
        call = getattr(type(value), "__call__", None)  # noqa: B004
        called = [self.of(call)] if isinstance(call, types.FunctionType) else []
        return [text, *called, *self._attribute_parts(value)]

    def _array_parts(self, value: Any) -> Iterable[str | bytes | memoryview]:
        """The dtype, the shape and the bytes; of an abstract array there are no bytes."""
        kind = [str(value.dtype), str(value.shape), str(getattr(value, "weak_type", False))]
        if isinstance(value, jax.ShapeDtypeStruct):
            return kind
        if isinstance(value, jax.Array) and value.is_fully_replicated:
            value = value.addressable_data(0)  # the others may be of other processes
        numbers, key = without_key_type(value)
        if key is not None:
            kind.append(key)
        host = np.asarray(jax.device_get(numbers))
        if host.dtype.hasobject:  # its bytes are addresses
            return [*kind, *map(self.of, host.ravel().tolist())]
        return [*kind, np.ascontiguousarray(host).reshape(-1).view(np.uint8).data]

    def _jaxpr_parts(self, closed: Any) -> Iterable[str | bytes | memoryview]:
        """The inputs, the constants, each equation, the outputs.

        A variable has the number of its first use, not its name: both "a b -> c = add a b" and "x y
        -> z = add x y" are "0 1 -> 2 = add 0 1".
        """
        jaxpr = opened(closed)
        numbers: dict[Var, int] = {}

        def token(atom: Var | Literal) -> str:
            if hasattr(atom, "val"):  # a literal
                return f"{_aval_text(atom.aval)}={self.of(atom.val)}"
            return str(numbers.setdefault(atom, len(numbers)))

        def binder(variable: Var) -> str:
            return f"{token(variable)}:{_aval_text(variable.aval)}"

        yield " ".join(map(binder, [*jaxpr.constvars, *jaxpr.invars]))
        yield from map(self.of, getattr(closed, "consts", ()))
        for eqn in jaxpr.eqns:
            name = str(eqn.primitive)
            ruled = name.startswith(("custom_jvp_call", "custom_vjp_call"))
            yield name
            yield " ".join(map(token, eqn.invars)) + "->" + " ".join(map(binder, eqn.outvars))
            for key, param in sorted(eqn.params.items()):
                if not (ruled and key in _RULES) and key not in _NOTES:
                    yield key
                    yield self.of(param)
            # The settings of a context manager around an operation stand in no parameter.
            for key in ("compute_type", "threefry_partitionable", "xla_metadata"):
                yield str(getattr(eqn.ctx, key, None))
        yield " ".join(map(token, jaxpr.outvars))

    def _code_parts(self, value: object) -> Iterable[str]:
        """The name; and for a function its code, its defaults and its closure."""
        name = name_of(value)
        if isinstance(value, functools.partial):
            return [name, *map(self.of, (value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return [name, self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, types.CodeType):  # without its file, lines and local names
            return [value.co_code.hex(), str(value.co_names), *map(self.of, value.co_consts)]
        if isinstance(value, types.FunctionType):
            cells = [_cell_contents(cell) for cell in value.__closure__ or ()]
            parts = (value.__code__, value.__defaults__, value.__kwdefaults__, *cells)
            return [name, *map(self.of, parts)]
        if isinstance(value, (type, types.ModuleType)):
            return [name]
        # The function in jax.jit and its like; and the owner of a built-in method, as of an array.
        inner = (getattr(value, of, None) for of in ("__wrapped__", "__self__"))
        return [name, *map(self.of, inner), *self._attribute_parts(value)]

    def _attribute_parts(self, value: object) -> Iterable[str]:
        """The names and values of an object's attributes."""
        # Private ones that are not data may belong to this process, such as a lock or a cache.
        return [self.of(x) for item in _fields_of(value, _is_data).items() for x in item]


# Rules of derivatives: unused here, since a derivative in the program is already traced.
_RULES = ("fwd_jaxpr_thunk", "bwd", "out_trees", "jvp_jaxpr_fun", "jvp_jaxpr_thunk")
# Where something was written in a file.
_NOTES = ("debug", "debug_info", "name_and_src_info", "source_info")


def _digest(*parts: str | bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))  # so that no two lists of parts are alike
        digest.update(data)
    return digest.hexdigest()


_cached_digest = functools.lru_cache(4096)(_digest)  # most parameters of an equation


@functools.lru_cache(4096)
def _aval_text(aval: object) -> str:
    return f"{_ADDRESS.sub('', str(aval))}{'~' if getattr(aval, 'weak_type', False) else ''}"


def _is_code(value: object) -> bool:
    """Whether a name and the held values identify a value: functions, classes, modules."""
    return isinstance(
        value, (type, types.ModuleType, types.CodeType, types.MethodType, functools.partial)
    ) or (callable(value) and hasattr(value, "__qualname__"))


def _items_of(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else []


def _is_data(value: object) -> bool:
    """Whether a value is one of numbers, texts and arrays, or a container of these."""
    plain = type(value) in _SCALARS or isinstance(value, (np.ndarray, np.generic, jax.Array))
    return plain or (type(value) in (list, tuple, dict) and all(map(_is_data, _items_of(value))))


def _cell_contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _fields_of(
    value: object, private: Callable[[object], bool] = lambda _: False
) -> dict[str, object]:
    """The public attributes of an object, and the private ones with requested values."""
    slots: list[Any] = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
    names = [n for given in slots for n in ((given,) if isinstance(given, str) else given)]
    # An object may have both; of a named tuple or a dataclass the declared fields are all.
    fields = {n: getattr(value, n) for n in names if hasattr(value, n)}
    fields |= getattr(value, "__dict__", {})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = dict(zip(value._fields, value, strict=True))
    elif dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {n: v for n, v in fields.items() if n[:1] != "_" or (n[1:2] != "_" and private(v))}
