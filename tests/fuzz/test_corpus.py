"""What was once read wrongly is refused in one line, without gigabytes or an endless loop."""

from __future__ import annotations

import shutil

import pytest

from tests.fuzz.campaign import run_campaign
from tests.fuzz.corpus import CORPUS
from tests.fuzz.originals import MEDIA_KINDS, write_originals
from tests.fuzz.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.torch]

MAX_MEGABYTES = 200
_KINDS = [*CORPUS, *MEDIA_KINDS]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return write_originals(tmp_path_factory.mktemp("originals"), _KINDS)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(_KINDS) as running:
        yield running


@pytest.mark.parametrize("kind", CORPUS)
def test_the_corpus_is_refused(kind, originals, sandbox, tmp_path):
    (original,) = originals[kind]
    sandbox.warm_up(kind, original)
    answer = sandbox.run(kind, original)
    assert answer.end == "answered"
    wrong = []
    for name, damage in CORPUS[kind].items():
        model = tmp_path / "model"
        shutil.copytree(original, model)
        damage(model)
        outcome = sandbox.run(kind, model)
        # What is not read, such as the code that auto_map names, need not be refused.
        harmless = outcome.end == "refused" or outcome.detail == answer.detail
        if not harmless or outcome.megabytes > MAX_MEGABYTES:
            wrong.append((name, outcome))
        shutil.rmtree(model)
    assert not wrong


def test_random_damage_is_refused_or_changes_nothing(originals):
    counts = run_campaign(_KINDS, seconds=240, cases=2, workers=1, originals=originals)
    assert not [failure for each in counts.values() for failure in each.failures]
