"""Runs the code blocks of a page in order, as a reader does who begins with an empty folder.

    python -m tests.docs.pages docs/tutorials/classify-texts.md

prints what the blocks print into the page.

- A block of bash runs in a shell. One whose last line is `hyperagg serve` runs until the end of the
  page, and another port replaces 8000.
- A block of python runs in this process, with the names of the blocks before it.
- A block of text behind one of these holds what that one printed. After `<!-- varies -->` it is an
  example: where the processor, PyTorch or the clock decides.
- Blocks of sh and of other languages do not run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^```(bash|python)\n(.*?)^```$(?:\n\n(<!-- varies -->\n)?```text\n(.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
# Whether kernels are compiled already, and how often progress is shown.
_OF_THE_MACHINE = re.compile(r"^(compiling kernels.*|.* elapsed(, .* left)?)\n", re.MULTILINE)
_PAGE_PORT = 8000
_SECONDS_TO_START = 300


class Block(NamedTuple):
    """A block of code; `output` is what the page says that it prints, None if it says nothing."""

    language: str
    code: str
    output: str | None
    varies: bool
    span: tuple[int, int]  # of the output


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that run."""
    return [
        Block(each[1], each[2], each[4], bool(each[3]), each.span(4))
        for each in BLOCK.finditer(text)
    ]


def run(text: str) -> Iterator[tuple[Block, str]]:
    """Yield each block of a page with what it printed, from the current folder.

    Raises:
        RuntimeError: a command failed.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    environment = dict(os.environ, PYTHONPATH=str(ROOT), COLUMNS="80", NO_COLOR="1", TERM="dumb")
    with contextlib.ExitStack() as servers, tempfile.TemporaryDirectory() as programs:
        _write_programs(Path(programs))
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        port = _free_port()
        for block in blocks(text):
            code = block.code.replace(f":{_PAGE_PORT}", f":{port}")
            if block.language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(code, "page", "exec", dont_inherit=True), names)
                yield block, printed.getvalue()
            elif code.rstrip().splitlines()[-1].startswith("hyperagg serve"):
                servers.enter_context(_serving(f"{code.rstrip()} --port {port}", environment, port))
                yield block, ""
            else:
                yield block, _run_in_shell(code, environment)


def _write_programs(folder: Path) -> None:
    """Make the commands of this checkout those that a shell finds."""
    for name, arguments in {"hyperagg": "-m hyperagg ", "python": ""}.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)


def _run_in_shell(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{code}\nexit code {done.returncode}:\n{done.stdout}")
    printed = _OF_THE_MACHINE.sub("", done.stdout)
    return printed if printed.endswith("\n") or not printed else f"{printed}\n"


@contextlib.contextmanager
def _serving(code: str, environment: dict[str, str], port: int) -> Iterator[None]:
    server = subprocess.Popen(
        ["bash", "-c", code],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _SECONDS_TO_START
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{code}\ndid not start")
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def check(page: Path) -> None:
    """Run the blocks of a page in the current folder.

    Raises:
        AssertionError: a block does not print what the page says, or there is none.
    """
    ran = 0
    for block, printed in run(page.read_text("utf-8")):
        ran += 1
        if block.output is not None and not block.varies and printed != block.output:
            raise AssertionError(f"{page.name}: {block.code}\nprints\n{printed}")
    assert ran, page


def rewrite(page: Path) -> None:
    """Replace the outputs that a page shows by what its blocks print."""
    text = page.read_text("utf-8")
    folder = Path(tempfile.mkdtemp())
    before = Path.cwd()
    os.chdir(folder)
    try:
        printed = list(run(text))
    finally:
        os.chdir(before)
        shutil.rmtree(folder)
    for block, output in reversed(printed):
        if block.output is not None:
            begin, end = block.span
            text = text[:begin] + output + text[end:]
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name).resolve())
