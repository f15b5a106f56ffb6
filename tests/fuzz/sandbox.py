"""Reads inputs in forked processes with limits of time and memory.

python -m tests.fuzz.sandbox KIND... reads one JSON object {"kind", "path"} per line of standard
input and answers each with one line: how it ended. With "fork": false a valid input is read in the
process itself. The libraries that these kinds need are imported once, before the forks.

A fork copies the pages that it touches, which takes longer than to read a small input. So one fork
reads many inputs in turn, up to the first that fails, and that one is read again by itself.
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
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ENDS", "Outcome", "Reader", "Sandbox"]

MAX_MEMORY, MAX_SECONDS = 2**30, 10.0
MAX_CASES_PER_FORK = 200
# answered: with a digest; refused: in one line, as the command line prints it, which names a file
# of the input; unexplained: in one line that does not; traceback: also one that only a thread
# printed; crash: by a signal, or a panic of a library in Rust.
ENDS = ("answered", "refused", "unexplained", "traceback", "hang", "over 1 GB", "crash")
_GOOD = ENDS[:2]
_MAX_DETAIL = 300


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        end: one of `ENDS`.
        detail: the digest of the answers, or the message.
        seconds: the time of the case.
        megabytes: the memory that it used beyond that of the process before it.
    """

    end: str
    detail: str
    seconds: float
    megabytes: int


class Sandbox:
    """A process that forks others, which read the cases; a context manager.

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


class Reader:
    """Reads inputs in forks of this process; a context manager."""

    def __init__(self) -> None:
        self._fork: _Fork | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the fork, so that the next input is read in another one."""
        if self._fork is not None:
            self._fork.end()
            self._fork = None

    def run(self, kind: str, path: Path) -> Outcome:
        """Read an input."""
        if self._fork is None:
            self._fork = _Fork()
        outcome, is_first = self._fork.run(kind, path), self._fork.cases == 1
        is_good = outcome.end in _GOOD
        if not is_good or self._fork.cases == MAX_CASES_PER_FORK:
            self.close()
        if is_good or is_first:
            return outcome
        alone = self.run(kind, path)
        if alone.end not in _GOOD:
            return alone
        return replace(outcome, detail=f"after other inputs only: {outcome.detail}")


class _Fork:
    """A process that reads inputs in turn.

    Attributes:
        cases: how many it has been given.
    """

    def __init__(self) -> None:
        self.cases = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        cases, self._cases = os.pipe()
        self._answers, answers = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                os.close(self._cases)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(self._errors.fileno(), 2)
                _read_cases(cases, answers)
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.close(cases)
        os.close(answers)

    def run(self, kind: str, path: Path) -> Outcome:
        """Read an input; after an end that is not good, no other one may follow."""
        self.cases += 1
        begun, printed_before = time.monotonic(), self._errors.seek(0, os.SEEK_END)
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is noticed below
            os.write(self._cases, json.dumps([kind, str(path)]).encode() + b"\n")
        answer = _read_line(self._answers, begun + MAX_SECONDS)
        seconds = time.monotonic() - begun
        if answer is None:
            return Outcome("hang", f"more than {MAX_SECONDS:g} s", seconds, 0)
        self._errors.seek(printed_before)
        printed = self._errors.read(1 << 20).decode("utf-8", "replace")
        if not answer:
            detail = f"{_describe_status(self._wait())}: {printed[-_MAX_DETAIL:]}"
            return Outcome("crash", detail, seconds, 0)
        end, detail, megabytes = json.loads(answer)
        if end in _GOOD and "Traceback (most recent call last)" in printed:
            end, detail = "traceback", f"printed: {printed[-_MAX_DETAIL:]}"
        return Outcome(end, detail, seconds, megabytes)

    def end(self) -> None:
        """End the process, also in the middle of an input."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            self._wait()
        os.close(self._cases)
        os.close(self._answers)
        self._errors.close()

    def _wait(self) -> int:
        _, status = os.waitpid(self._process, 0)
        self._process = 0
        return status


def _read_cases(cases: int, answers: int) -> None:
    """Read the inputs that are named on one pipe, and write to the other one how each ended."""
    with os.fdopen(cases) as lines, os.fdopen(answers, "w") as file:
        for line in lines:
            kind, path = json.loads(line)
            print(json.dumps(_read(kind, Path(path))), file=file, flush=True)


def _read(kind: str, path: Path) -> tuple[str, str, int]:
    """Read an input within the limit of memory, and return its end, the detail and megabytes."""
    from tests.fuzz.probes import PROBES

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    begun = _status("VmHWM")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MAX_MEMORY, hard))
    try:
        end, detail = "answered", PROBES[kind](path)
    except BaseException as error:
        end, detail = _end_of_error(error, path)
    return end, detail, max(0, _status("VmHWM") - begun) >> 20


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


def _read_line(pipe: int, deadline: float) -> bytes | None:
    """The next line of a pipe, empty if it is closed before; None if that takes too long."""
    parts: list[bytes] = []
    while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
        if not (part := os.read(pipe, 1 << 16)):
            return b""
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
    return None


def _describe_status(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """Answer the cases on standard input."""
    from tests.fuzz.probes import PROBES, prepare

    prepare(sys.argv[1:])
    with Reader() as reader:
        for line in sys.stdin:
            case: dict[str, Any] = json.loads(line)
            if case.pop("fork"):
                print(json.dumps(vars(reader.run(case["kind"], Path(case["path"])))), flush=True)
            else:
                reader.close()
                PROBES[case["kind"]](Path(case["path"]))
                # The collector of a fork would otherwise touch, and so copy, the memory of all.
                gc.freeze()
                print("{}", flush=True)


if __name__ == "__main__":
    main()
