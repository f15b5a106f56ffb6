"""Which files go into which outputs, and which part of them a shard answers."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperagg.classifier.batch_prediction.output import OutputFile, StandardOutput, is_replaceable
from hyperagg.data.readers.sources import EXTENSIONS, expand_sources, format_extension

__all__ = [
    "OUTPUT_EXTENSIONS",
    "Shard",
    "Task",
    "is_folder",
    "output_format_of",
    "plan_tasks",
]

OUTPUT_EXTENSIONS = {
    ".txt": "labels",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_EXTENSION_OF = {"labels": ".txt", "jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}
_ROWS_PER_BLOCK = 8192


@dataclass(frozen=True)
class Shard:
    """One of several parts of the input.

    Args:
        index: the number of the part, from 0 to count - 1.
        count: the number of parts.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard "index/count", such as 0/4."""
        index, _, count = text.partition("/")
        if index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return cls(int(index), int(count))
        raise ValueError(f"--shard {text}: expected I/N with I from 0 to N - 1, such as 0/4")

    def has_row(self, row: int) -> bool:
        """Return whether a row of a file is in this part; parts alternate in blocks of rows."""
        return row // _ROWS_PER_BLOCK % self.count == self.index

    def rename(self, path: Path) -> Path:
        """Return the name of an output of this part alone."""
        suffix = f"-{self.index:05}-of-{self.count:05}"
        return path.with_name(f"{path.stem}{suffix}{path.suffix}")


@dataclass(eq=False)
class Task:
    """One output.

    Args:
        sources: the files whose rows it answers, in order.
        output: where the answers go.
        shard: the rows of them that are answered; None for all.
    """

    sources: list[str]
    output: OutputFile | StandardOutput
    shard: Shard | None = None


def output_format_of(out: Path | None, requested: str | None) -> str | None:
    """Return the format of an output that follows from its name; None for a folder.

    Raises:
        ValueError: the extension is not known.
    """
    if requested is not None:
        if requested not in _EXTENSION_OF:
            raise ValueError(
                f"--output-format {requested}: expected one of {', '.join(_EXTENSION_OF)}"
            )
        return requested
    if out is None or is_folder(out) or not is_replaceable(out):
        return None
    if out.suffix.lower() in OUTPUT_EXTENSIONS:
        return OUTPUT_EXTENSIONS[out.suffix.lower()]
    raise ValueError(
        f"--out {out}: expected a folder, or a file with one of the extensions "
        f"{', '.join(OUTPUT_EXTENSIONS)}; or give --output-format"
    )


def is_folder(out: Path) -> bool:
    """Return whether `--out` names a folder: an existing one, or a name without an extension."""
    return out.is_dir() or (not out.exists() and not out.suffix)


def plan_tasks(
    arguments: Sequence[str],
    out: Path | None,
    *,
    format: str,
    input_format: str | None = None,
    shard: Shard | None = None,
    job: dict[str, Any],
    resume: bool,
    force: bool,
) -> list[Task]:
    """Return the outputs of a job; those that are complete already are among them.

    Args:
        arguments: files, folders and globs.
        out: a file, a folder for one output per file, or None for standard output.
        format: the format of the outputs.
        input_format: the format of the files, if it is given.
        shard: the part of the files, or of the rows of a single file, that is answered.
        job: what determines the answers; an interrupted job is only continued by the same job.
        resume, force: as those of `OutputFile`.

    Raises:
        ValueError: no file is found, two outputs have one name, or an output exists or is inside
            a folder of the input.
    """
    sources = _relative_names(arguments, input_format)
    rows = shard if len(sources) == 1 else None
    groups: list[tuple[list[str], Path | None]]
    if out is not None and is_folder(out):
        outputs = _outputs_in_folder(sources, out, _EXTENSION_OF[format])
        if rows is not None:
            outputs = {source: rows.rename(path) for source, path in outputs.items()}
        elif shard is not None:
            outputs = dict(list(outputs.items())[shard.index :: shard.count])
        groups = [([source], path) for source, path in outputs.items()]
    else:
        chosen = list(sources)
        if shard is not None:
            if rows is None:
                chosen = chosen[shard.index :: shard.count]
            if out is not None and is_replaceable(out):
                out = shard.rename(out)
        groups = [(chosen, out)] if chosen else []
    tasks = []
    for files, path in groups:
        if path is not None and is_replaceable(path):
            _check_outside(arguments, path)
        if path is None or not is_replaceable(path):
            if resume:
                raise ValueError("--resume: expected --out with a file or a folder to continue")
            if format == "parquet":
                raise ValueError("--output-format parquet: expected --out with a file or a folder")
            tasks.append(Task(files, StandardOutput(path), rows))
            continue
        for file in files:
            if file != "-" and path.exists() and path.samefile(file):
                raise ValueError(f"--out {path}: is the input; expected another file")
        described = {**job, "input": [_identity(file) for file in files]}
        if rows is not None:
            described["shard"] = [rows.index, rows.count]
        if resume and "-" in files:
            raise ValueError("--resume: standard input cannot be read again; expected a file")
        output = OutputFile(path, described, resume=resume, force=force)
        tasks.append(Task(files, output, rows))
    return tasks


def _check_outside(arguments: Sequence[str], out: Path) -> None:
    """Refuse an output that the next call would read as input, such as one that resumes."""
    for argument in arguments:
        folder, path = Path(argument).resolve(), out.resolve()
        if not folder.is_dir() or not path.is_relative_to(folder):
            continue
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts):
            raise ValueError(
                f"--out {out}: is inside the input folder {argument}, and would be read as input "
                "when the command is repeated; expected another folder"
            )


def _identity(file: str) -> list[Any]:
    if file == "-":
        return [file]
    found = os.stat(file)  # noqa: PTH116
    return [file, found.st_size, found.st_mtime_ns]


def _relative_names(arguments: Sequence[str], format: str | None) -> dict[str, str]:
    """Return the files, each with its name below the folder or glob that it was found through."""
    names: dict[str, str] = {}
    for argument in arguments:
        base = Path(argument)
        if not base.exists() and glob.has_magic(argument):
            while glob.has_magic(str(base)):
                base = base.parent
        for source in expand_sources([argument], format=format):
            path = Path(source)
            inside = base.is_dir() and path.is_relative_to(base)
            name = str(path.relative_to(base)) if inside else path.name
            names.setdefault(source, "stdin" if source == "-" else name)
    expand_sources(list(names), format=format)  # "-" and files exclude each other
    return names


def _outputs_in_folder(sources: dict[str, str], out: Path, extension: str) -> dict[str, Path]:
    outputs: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for source, name in sources.items():
        path = Path(name)
        known = format_extension(path)
        stem = name
        while known in EXTENSIONS and Path(stem).suffix and Path(stem).suffix.lower() != known:
            stem = str(Path(stem).with_suffix(""))  # the extension of a compression
        if known in EXTENSIONS:
            stem = str(Path(stem).with_suffix(""))
        target = out / f"{stem}{extension}"
        if target in taken:
            raise ValueError(
                f"--out {out}: {taken[target]} and {source} would both be answered in {target}; "
                "expected files of different names, or one call per file"
            )
        taken[target] = source
        outputs[source] = target
    return outputs
