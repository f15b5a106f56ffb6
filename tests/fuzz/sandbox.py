"""Reads inputs in forked processes with limits of time and memory.

python -m tests.fuzz.sandbox KIND... reads one JSON object {"kind", "path"} per line of standard
input and answers each with one line: how it ended. With "fork": false a valid input is read in the
process itself. The libraries that these kinds need are imported once, before the forks.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ENDS", "Outcome", "Sandbox"]

MAX_MEMORY, MAX_SECONDS = 2**30, 10.0
# answered: with a digest; refused: in one line, as the command line prints it, which names a file
# of the input; unexplained: in one line that does not; traceback: also one that only a thread
# printed; crash: by a signal, or a panic of a library in Rust.
ENDS = ("answered", "refused", "unexplained", "traceback", "hang", "over 1 GB", "crash")
_MAX_DETAIL = 300


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        end: one of `ENDS`.
        detail: the digest of the answers, or the message.
        seconds: the time of the process.
        megabytes: the memory that it used beyond that of the imports.
    """

    end: str
    detail: str
    seconds: float
    megabytes: int


class Sandbox:
    """A process that forks one child per case; a context manager.

    Args:
        kinds: of the cases.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = tuple(kinds)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.sandbox", *self.kinds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        return self

    def warm_up(self, kind: str, path: Path) -> None:
        """Read a valid input without a fork, so that cases do not repeat what is done once."""
        self._ask(kind=kind, path=str(path), fork=False)

    def run(self, kind: str, path: Path) -> Outcome:
        """Read an input of this kind."""
        return Outcome(**self._ask(kind=kind, path=str(path), fork=True))

    def _ask(self, **case: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(case), file=self._process.stdin, flush=True)
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(
                f"{case['path']}: the sandbox ended with exit code {self._process.wait()}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _status(name: str) -> int:
    """A figure of the memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    return 0


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was denied to the error or to one that it was raised from."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or "memory" in text or "allocate" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _names_input(message: str, path: Path) -> bool:
    """Whether a message has the path of the input or the name of a file in it, as every refusal
    must.

    What a library says about an array or a number alone does not tell the user what to mend.
    """
    inside = {file.name for file in path.rglob("*")} if path.is_dir() else set()
    return any(name in message for name in (str(path), *inside))


def _end_of_error(error: BaseException, path: Path) -> tuple[str, str]:
    from hyperagg.cli._runner import one_line

    detail = repr(error)[:_MAX_DETAIL]
    if not isinstance(error, Exception):  # the PanicException of pyo3
        return "crash", detail
    if _is_out_of_memory(error):
        return "over 1 GB", detail
    line = one_line(error)
    if not line or isinstance(error, ImportError):
        return "traceback", detail
    return "refused" if _names_input(line, path) else "unexplained", line


def _child(kind: str, path: Path, pipe: int) -> None:
    from tests.fuzz.probes import PROBES

    begun = _status("VmHWM")
    limit = _status("VmSize") + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        end, detail = "answered", PROBES[kind](path)
    except BaseException as error:
        end, detail = _end_of_error(error, path)
    used = max(0, _status("VmHWM") - begun) >> 20
    with open(pipe, "wb") as file:
        file.write(json.dumps([end, detail, used]).encode())


def _run(kind: str, path: str) -> Outcome:
    """Read an input in a fork, and kill it when its time is over."""
    reader, writer = os.pipe()
    begun = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(errors.fileno(), 2)
                _child(kind, Path(path), writer)
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.close(writer)
        answer = _read_all(reader, begun + MAX_SECONDS)
        if answer is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os.close(reader)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - begun
        errors.seek(0)
        printed = errors.read(1 << 20).decode("utf-8", "replace")
    if answer is None:
        return Outcome("hang", f"more than {MAX_SECONDS:g} s", seconds, 0)
    if not answer:
        detail = f"{_describe_status(status)}: {printed[-_MAX_DETAIL:]}"
        return Outcome("crash", detail, seconds, 0)
    end, detail, megabytes = json.loads(answer)
    if end in ("answered", "refused") and "Traceback (most recent call last)" in printed:
        end, detail = "traceback", f"printed: {printed[-_MAX_DETAIL:]}"
    return Outcome(end, detail, seconds, megabytes)


def _read_all(pipe: int, deadline: float) -> bytes | None:
    """What is written into a pipe until it is closed; None if that takes too long."""
    parts: list[bytes] = []
    while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
        if not (part := os.read(pipe, 1 << 16)):
            return b"".join(parts)
        parts.append(part)
    return None


def _describe_status(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """Answer the cases on standard input."""
    from tests.fuzz.probes import PROBES, prepare

    prepare(sys.argv[1:])
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        if case.pop("fork"):
            print(json.dumps(vars(_run(**case))), flush=True)
        else:
            PROBES[case["kind"]](Path(case["path"]))
            # The collector of a child would otherwise touch, and so copy, the memory of all of it.
            gc.freeze()
            print("{}", flush=True)


if __name__ == "__main__":
    main()
