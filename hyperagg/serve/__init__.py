"""An HTTP server for saved models.

`hyperagg serve MODEL` starts it; `create_app` returns the same application for a server of one's
own. Needs FastAPI and uvicorn: ``pip install 'hyperagg[serve]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperagg.serve.app import create_app
    from hyperagg.serve.models import ServedModel, load_models
    from hyperagg.serve.server import run
    from hyperagg.serve.settings import Settings

__all__ = ["ServedModel", "Settings", "create_app", "load_models", "run"]

_MODULES = {
    "ServedModel": "models",
    "Settings": "settings",
    "create_app": "app",
    "load_models": "models",
    "run": "server",
}
_EXTRA_PACKAGES = {"fastapi", "httptools", "orjson", "prometheus_client", "starlette", "uvicorn"}


def __getattr__(name: str) -> Any:
    # Imported when first used: a worker tells its supervisor that it is alive only after it has
    # imported this package.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_PACKAGES:
            raise
        raise ImportError(
            f"hyperagg.serve needs {error.name}: pip install 'hyperagg[serve]'", name=error.name
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
