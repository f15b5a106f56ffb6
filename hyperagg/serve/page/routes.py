"""The route of the page."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from hyperagg.serve.page.assembly import served_page

__all__ = ["add_page_route"]


def add_page_route(app: FastAPI) -> None:
    """Add the page at `/`; it uses the other routes, as any client does."""

    async def page(request: Request) -> Response:
        """Return a page for people, which predicts and explains as one types."""
        content, headers = served_page()
        return HTMLResponse(content, headers=headers)

    app.add_api_route("/", page, methods=["GET"], response_class=HTMLResponse)
