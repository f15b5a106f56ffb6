"""An HTTP server for saved models.

`hyperagg serve MODEL` starts it; `create_app` returns the same application for a server of one's
own. Needs FastAPI and uvicorn: ``pip install 'hyperagg[serve]'``.
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401
    import orjson as _orjson  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"hyperagg.serve requires {error.name}: pip install 'hyperagg[serve]'", name=error.name
    ) from error

from hyperagg.serve.app import create_app
from hyperagg.serve.models import ServedModel, load_models
from hyperagg.serve.settings import Settings

__all__ = ["ServedModel", "Settings", "create_app", "load_models"]
