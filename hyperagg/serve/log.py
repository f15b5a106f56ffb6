"""Logs as lines of JSON, without the content of requests."""

from __future__ import annotations

import asyncio
import logging
import select
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

__all__ = ["JsonFormatter", "LineHandler", "access_logger", "log_config"]

# Its messages are lines of JSON already. It has no handler unless `hyperagg serve` sets one.
access_logger = logging.getLogger("hyperagg.serve.access")

# So many bytes reach a pipe at once, not mixed with those of other workers. Windows has no such
# number.
_PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON.

    Of an exception it shows the type and where it was raised, not the message, which could quote
    the text of a request.
    """

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage().strip(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            content["exception"] = record.exc_info[0].__name__
            content["raised_at"] = [
                f"{frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return orjson.dumps(content).decode()


class LineHandler(logging.StreamHandler):
    """Writes the messages of a turn of the event loop together, as lines.

    One system call writes all of them, so that requests do not wait for one each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage() + "\n"
        size = len(line.encode())
        if self._size + size > _PIPE_BUF:
            self.flush()
        self._lines.append(line)
        self._size += size
        if len(self._lines) > 1:
            return  # to be written with the first one
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # there is no loop
            self.flush()

    def flush(self) -> None:
        lines, self._lines, self._size = self._lines, [], 0
        with suppress(OSError):  # nobody reads standard error
            self.stream.write("".join(lines))
            super().flush()


def log_config(*, access_log: bool) -> dict[str, Any]:
    """Return the configuration of `logging` for a server: lines of JSON on standard error."""

    def logger(handler: str, level: str = "INFO") -> dict[str, Any]:
        return {"handlers": [handler], "level": level, "propagate": False}

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {
            "json": {"class": "logging.StreamHandler", "formatter": "json"},
            "line": {"()": LineHandler},
        },
        "loggers": {
            "uvicorn": logger("json"),
            "hyperagg.serve": logger("json"),
            access_logger.name: logger("line", "INFO" if access_log else "WARNING"),
        },
    }
