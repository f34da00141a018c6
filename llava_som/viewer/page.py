"""The page's files put together with its data: one document that loads nothing but images."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

SCRIPTS = ("masks.js", "mentions.js", "store.js", "figure.js", "page.js")
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src 'self' file: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)


def render_page(data: dict[str, Any], name: str = "page", scripts: tuple[str, ...] = SCRIPTS) -> str:
    """The HTML of the viewer, or of another page of this folder, with `data` in it, which its scripts read.

    Names, answers and reasons were written by others: they travel as JSON that cannot end its element, the scripts show
    them as text only, and the page's own policy lets no other script run.
    """
    before, after = _template(name, scripts)
    return before + _inline_json(data) + after


@cache
def _template(name: str, scripts: tuple[str, ...]) -> tuple[str, str]:
    style, script = _file(f"{name}.css"), "".join(_file(part) for part in scripts)
    page = _file(f"{name}.html").replace("{{ policy }}", _POLICY.format(script=_digest(script), style=_digest(style)))
    before, after = page.replace("{{ style }}", style).split("{{ data }}")
    return before, after.replace("{{ script }}", script)


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _inline_json(data: dict[str, Any]) -> str:
    """JSON in ASCII, which holds any string (half a surrogate pair too) and no `<`."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
