"""Puts the files of a page together: one HTML text, whose policy allows its own scripts alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from hyperagg._common.pages.document import policy_hash, read_style
from hyperagg.classifier import Predictor
from hyperagg.serve.page.parameters import describe, encode_parameters

__all__ = ["exported_page", "served_page"]


@cache
def served_page() -> tuple[str, dict[str, str]]:
    """Return the page of a server, which asks the server for everything, and its headers."""
    views = ("classifier", "language", "multimodal")
    scripts = ["dom.js", "server.js", "table.js", *(f"{view}.js" for view in views), "main.js"]
    policy = _policy(scripts, connect="'self'") + "; frame-ancestors 'none'"
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return _assemble(views, scripts, {}), headers


def exported_page(predictor: Predictor, name: str, examples: Sequence[str] = ()) -> str:
    """Return a page that holds a classifier and needs neither a server nor a network.

    Args:
        predictor: the classifier, whose embedding is rounded to 8-bit integers.
        name: the title of the page.
        examples: texts to try.

    Raises:
        ValueError: the classifier has hierarchical softmax or another tokenizer than the built-in
            one.
    """
    scripts = ["dom.js", "scoring.js", "table.js", "classifier.js", "main.js"]
    data = {
        "description": {**describe(predictor), "name": name, "examples": list(examples)},
        "parameters": encode_parameters(predictor),
    }
    policy = _policy(scripts, connect="'none'")
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return _assemble(("classifier",), scripts, data, meta)


def _assemble(
    views: Sequence[str], scripts: Sequence[str], data: Mapping[str, Any], policy: str = ""
) -> str:
    blocks = {
        "policy": policy,
        "style": f"<style>{_style()}</style>",
        "views": "\n".join(
            f'<template id="{view}-view">\n{_read(f"{view}.html")}</template>' for view in views
        ),
        "data": "\n".join(
            f'<script type="application/json" id="{name}">{_json(value)}</script>'
            for name, value in data.items()
        ),
        "scripts": "\n".join(f"<script>{_read(script)}</script>" for script in scripts),
    }
    page = _read("index.html")
    for name, block in blocks.items():
        page = page.replace(f"<!-- {name} -->", block, 1)
    return page


def _policy(scripts: Sequence[str], connect: str) -> str:
    """The content security policy: the scripts and the style of the page and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(policy_hash(_read(script)) for script in scripts)}",
            f"style-src {policy_hash(_style())}",
            "img-src data:",
            "media-src data:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _style() -> str:
    return read_style("base.css") + _read("style.css")


@cache
def _read(name: str) -> str:
    # Read as text, so that a line break is a newline, as in the hash that a browser computes.
    return files(__package__).joinpath(name).read_text("utf-8")


def _json(value: Any) -> str:
    # In a script, "</script" would end it whatever the quotes around it.
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
