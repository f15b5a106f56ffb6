"""A classifier that was used before a fork works in the child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

SCRIPT = """
import os
import sys
import time
{imports}
import numpy as np
from hyperagg import TextClassifier

folder, limit = sys.argv[1], 120.0
rng = np.random.default_rng(0)
words = np.array([f"word{{i}}" for i in range(500)])
texts = [" ".join(rng.choice(words, 60)) for _ in range(400)]
labels = [int("word1 " in text) for text in texts]
clf = TextClassifier(d_model=64, epochs=2, threads=2).fit(texts, labels, seed=3)
clf.save_pretrained(folder)


def answers():
    loaded = TextClassifier.from_pretrained(folder)
    fitted = TextClassifier(d_model=64, epochs=2, threads=2).fit(texts, labels, seed=3)
    fitted.partial_fit(texts[:50], labels[:50])
    return [
        loaded.predict_proba(texts),  # enough work for several threads
        loaded.explain(texts[0]).contributions,
        fitted.predict_proba(texts),
        loaded.stream().append(texts[0]).predict_proba(),
    ]


expected = answers()
child = os.fork()
if child == 0:
    try:
        found = answers()
        equal = all(np.array_equal(a, b) for a, b in zip(found, expected))
        os._exit(0 if equal else 3)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(4)
started = time.monotonic()
while time.monotonic() - started < limit:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        print(os.waitstatus_to_exitcode(status))
        sys.exit()
    time.sleep(0.05)
os.kill(child, 9)
os.waitpid(child, 0)
print("the child hung")
"""


@pytest.mark.parametrize(
    "imports", ["", pytest.param("import torch", marks=pytest.mark.torch)], ids=["numpy", "torch"]
)
def test_the_child_of_a_fork_loads_fits_explains_and_predicts_the_same(tmp_path, imports):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(imports=imports), tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "0", (done.stdout, done.stderr)
