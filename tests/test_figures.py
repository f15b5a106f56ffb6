"""Every committed image is shown on a page, with a text for those who do not see it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", *patterns]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.splitlines() if (ROOT / name).exists()]


def shown_images() -> list[tuple[Path, str, Path]]:
    """The pages with the alternative text and the file of each image that they show."""
    return [
        (page, text, Path(os.path.normpath(page.parent / target)))
        for page in tracked("*.md")
        for text, target in IMAGE.findall(page.read_text("utf-8"))
        if "://" not in target
    ]


def test_every_committed_image_is_shown_on_a_page():
    shown = {file for _, _, file in shown_images()}
    images = tracked("*.png", "*.gif", "*.svg", "*.jpg")
    assert len(images) > 10
    assert not [str(image.relative_to(ROOT)) for image in images if image not in shown]


def test_every_image_of_a_page_exists_and_has_an_alternative_text():
    found = [
        f"{page.relative_to(ROOT)}: {file.name}"
        for page, text, file in shown_images()
        if not file.is_file() or len(text.split()) < 3
    ]
    assert not found
