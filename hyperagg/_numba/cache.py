"""Compile kernels and keep their machine code between processes.

Numba's own cache takes a compiled function for current as long as the file that defines it is
unchanged, and therefore runs old machine code after a change of an inlined function or an intrinsic
in another file. Here the key of a kernel holds a digest of its file and of all files of this
package that this file imports, directly or indirectly, as they were when it was imported, together
with the versions of Numba and llvmlite and the processor.

The machine code is read from and written to the first of these directories that permits it:

1. `NUMBA_CACHE_DIR`, if it is set,
2. `__pycache__` beside the kernel's file; a directory that is filled but read-only serves as well,
3. `hyperagg/kernels` in `XDG_CACHE_HOME`, by default `~/.cache`,
4. `hyperagg-kernels-<user id>` in the directory for temporary files.

Machine code that another user could have written is code that another user could run: of the last
two, a directory is used only if it belongs to this user and only this user can write to it. If no
directory can be written to, every process compiles its kernels again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache, cached_property, wraps
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching

__all__ = ["njit", "source_digest"]

_PACKAGE = Path(__file__).resolve().parents[1]
_IMPORTS = re.compile(
    rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([\w.]+))",
    re.MULTILINE,
)
_logger = logging.getLogger("hyperagg")


def njit(function: Callable[..., Any] | None = None, *, cache: bool = False, **options: Any) -> Any:
    """Compile a function as `numba.njit` does, with the cache of this module.

    A function that only kernels call compiles faster with `no_cpython_wrapper=True`; calling it
    from Python then crashes the process. If it is small and called in several places, it also
    compiles faster with `forceinline=True` than with `inline="always"`.

    Args:
        function: the function; None where the decorator is written with options.
        cache: whether to keep the machine code between processes.
        options: the other options of `numba.njit`.

    Raises:
        ValueError: when the function is called and `NUMBA_DISABLE_JIT` is set.
    """
    if function is None:
        return lambda one: njit(one, cache=cache, **options)
    if numba.config.DISABLE_JIT:
        return _refusal(function)
    # The wrapper for C callers, which there are none of, would be a tenth of the compile time.
    dispatcher = numba.njit(no_cfunc_wrapper=True, **options)(function)
    if cache:
        dispatcher._cache = _KernelCache(function)
    return dispatcher


def _refusal(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a kernel is without a compiler: its intrinsics exist as machine code alone."""

    @wraps(function)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            f"NUMBA_DISABLE_JIT={numba.config.DISABLE_JIT}: expected it to be 0 or unset, since "
            "the kernels are compiled by Numba"
        )

    return refuse


def source_digest(path: Path) -> str | None:
    """Return the digest of a file and of what it imports from this package.

    Every file is read once per process, when the first module that imports it defines a kernel.

    Returns:
        a hexadecimal digest; None if a file cannot be read.
    """
    found: dict[Path, str] = {}
    pending = [path.resolve()]
    while pending:
        file = pending.pop()
        if file in found:
            continue
        try:
            found[file], imported = _read(file)
        except OSError:
            return None
        pending += imported
    names = "\n".join(f"{os.path.relpath(file, _PACKAGE)} {found[file]}" for file in sorted(found))
    return hashlib.sha256(f"{llvmlite.__version__}\n{names}".encode()).hexdigest()


@cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file, and the files of this package that it imports."""
    content = file.read_bytes()
    imported = []
    for source, names, module in _IMPORTS.findall(content):
        modules = [module or source]
        modules += [source + b"." + name for name in re.findall(rb"\w+", names) if source]
        imported += [path for one in modules if (path := _module_file(one.decode())) is not None]
    return hashlib.sha256(content).hexdigest(), tuple(imported)


def _module_file(module: str) -> Path | None:
    package, *parts = module.split(".")
    if package != _PACKAGE.name or not parts:
        return None
    path = _PACKAGE.joinpath(*parts)
    files = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in files if file.is_file()), None)


class _KernelCache(caching._Cache):
    """The cache of one kernel in all directories that may hold it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._file = Path(function.__code__.co_filename)
        # Taken now: the file may change before the kernel is compiled.
        self._digest = _digest_of(self._file)
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        return str(self._caches[-1].cache_path) if self._caches else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        for files in self._caches:
            try:
                found = files.load_overload(sig, target_context)
            except Exception:  # a damaged file, whatever unpickling it raises
                files.discard()
                continue
            if found is not None:
                return found
        if self._enabled:
            _announce(self._writable)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if self._writable is not None:
            try:
                self._writable.save_overload(sig, data)
            except OSError as error:  # such as a full disk
                _logger.debug("a kernel cannot be cached in %s: %s", self.cache_path, error)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        if self._writable is not None:
            self._writable.flush()

    @cached_property
    def _caches(self) -> list[_DirectoryCache]:
        """The caches to read from; the last one can be written to, if any can."""
        if self._digest is None or not self._enabled:
            return []
        return [
            _DirectoryCache(self._function, directory, self._digest, writable)
            for directory, writable in _directories(self._file.parent)
        ]

    @property
    def _writable(self) -> _DirectoryCache | None:
        return self._caches[-1] if self._caches and self._caches[-1].writable else None


@cache
def _digest_of(file: Path) -> str | None:
    return source_digest(file)


class _DirectoryCache(caching.FunctionCache):
    """The files of one kernel in one directory. Their names hold the digest, so that versions of
    this package that share a directory never exchange machine code."""

    def __init__(
        self, function: Callable[..., Any], directory: Path, digest: str, writable: bool
    ) -> None:
        locator = _Locator(function, directory, digest)
        self.writable = writable
        self._name, self._py_func = repr(function), function
        self._impl = _Implementation(function, locator)
        self._cache_path = str(directory)
        self._cache_file = caching.IndexDataCacheFile(
            self._cache_path, self._impl.filename_base, digest
        )
        self.enable()

    def save_overload(self, sig: Any, data: Any) -> None:
        super().save_overload(sig, data)
        current = self._impl.filename_base
        pattern = current.replace(self._impl.locator.get_disambiguator(), "*")
        for file in Path(self._cache_path).glob(f"{pattern}.*nb[ic]"):
            if not file.name.startswith(f"{current}."):
                file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what the files hold, so that new ones replace them."""
        if self.writable:
            with contextlib.suppress(OSError):
                self.flush()


class _Locator(caching._CacheLocator):
    def __init__(self, function: Callable[..., Any], directory: Path, digest: str) -> None:
        self._directory, self._digest = str(directory), digest
        self._py_file = function.__code__.co_filename
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return self._directory

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return f"{self._line}-{self._digest[:16]}"


class _Implementation(caching.CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any], locator: _Locator) -> None:
        self._locator = locator
        self._lineno = function.__code__.co_firstlineno
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


@cache
def _directories(folder: Path) -> list[tuple[Path, bool]]:
    """Where the machine code of a folder's kernels is looked for, and whether it can be written
    there; the first directory that can be written to is the last."""
    own = caching._CacheLocator.get_suitable_cache_subpath(str(folder / "_"))
    candidates: list[Callable[[], Path | None]] = [
        lambda: Path(numba.config.CACHE_DIR, own) if numba.config.CACHE_DIR else None,
        lambda: folder / "__pycache__",
        lambda: root / own if (root := _user_directory()) else None,
        lambda: root / own if (root := _temporary_directory()) else None,
    ]
    found: list[tuple[Path, bool]] = []
    for candidate in candidates:
        if directory := candidate():
            found.append((directory, _can_write(directory)))
            if found[-1][1]:
                break
    return found


def _can_write(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError:
        return False
    return True


def _user_directory() -> Path | None:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:  # neither HOME nor an entry for the user
            return None
        if not home.is_dir():
            return None
        base = home / ".cache"
    return _private(base / "hyperagg" / "kernels")


def _temporary_directory() -> Path | None:
    try:
        base = Path(tempfile.gettempdir())
    except OSError:  # no directory for temporary files can be written to
        return None
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return _private(base / f"hyperagg-kernels-{user}")


def _private(directory: Path) -> Path | None:
    """The directory, made if it is missing; None if another user could put files into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve(strict=True)
        own, *parents = [path.stat() for path in (directory, *directory.parents)]
    except OSError:
        return None
    if not hasattr(os, "getuid"):
        return directory
    if own.st_uid != os.getuid() or own.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    for parent in parents:  # whoever can rename a parent can put another directory in its place
        owned = parent.st_uid in (0, os.getuid())
        if not owned or (parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX):
            return None
    return directory


_announced = False


def _announce(writable: _DirectoryCache | None) -> None:
    """Say once per process that kernels are being compiled, and how long that may take.

    Each kernel is compiled when it is first called, so those of the first single text, of the first
    text that is not ASCII or of another kind of model come after those of training.
    """
    global _announced
    if _announced:
        return
    _announced = True
    if writable is not None:
        _logger.warning(
            "compiling kernels, each once per installation when it is first needed (up to half a "
            "minute)"
        )
    else:
        _logger.warning(
            "compiling kernels (up to half a minute in every process: no cache directory can be "
            "written to; set NUMBA_CACHE_DIR)"
        )
