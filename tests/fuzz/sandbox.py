"""Reads inputs in forked processes with limits of time and memory.

python -m tests.fuzz.sandbox reads one JSON object {"kind", "path"} per line of standard input
and answers each with one line: how it ended. With "fork": false a valid input is read in the
process itself. The libraries are imported once, before the forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ENDS", "Outcome", "Sandbox"]

MAX_MEMORY, MAX_SECONDS = 2**30, 10.0
# answered: with a digest; refused: in one line, as the command line prints it.
ENDS = ("answered", "refused", "traceback", "hang", "over 1 GB", "crash")


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
    """A process that forks one child per case; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.sandbox"],
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
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
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


def _child(kind: str, path: str, pipe: int) -> None:
    from hyperagg.cli._runner import one_line
    from tests.fuzz.probes import PROBES

    begun = _status("VmHWM")
    limit = _status("VmSize") + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        end, detail = "answered", PROBES[kind](Path(path))
    except Exception as error:
        line = one_line(error)
        if _is_out_of_memory(error):
            end, detail = "over 1 GB", repr(error)[:300]
        elif line is None or not line or isinstance(error, ImportError):
            end, detail = "traceback", repr(error)[:300]
        else:
            end, detail = "refused", line
    used = max(0, _status("VmHWM") - begun) >> 20
    os.write(pipe, json.dumps([end, detail, used]).encode())


def _run(kind: str, path: str) -> Outcome:
    reader, writer = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            _child(kind, path, writer)
        finally:
            os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], MAX_SECONDS)
    answer = os.read(reader, 1 << 20) if ready else b""
    seconds = time.monotonic() - begun
    if not ready:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if not ready:
        return Outcome("hang", f"more than {MAX_SECONDS:g} s", seconds, 0)
    if not answer:
        return Outcome("crash", f"wait status {status}", seconds, 0)
    end, detail, megabytes = json.loads(answer)
    return Outcome(end, detail, seconds, megabytes)


def main() -> None:
    """Answer the cases on standard input."""
    from tests.fuzz.probes import PROBES, prepare

    prepare()
    import hyperagg.diffusion
    import hyperagg.language.serialization
    import hyperagg.multimodal  # noqa: F401

    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        if case.pop("fork"):
            print(json.dumps(vars(_run(**case))), flush=True)
        else:
            PROBES[case["kind"]](Path(case["path"]))
            print("{}", flush=True)


if __name__ == "__main__":
    main()
