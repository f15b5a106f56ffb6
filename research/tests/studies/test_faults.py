"""Two moments of some faults; `python -m research study faults` has twenty."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from research.studies.faults import PRODUCTS, faults_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs fork and prlimit"),
]

# The other signals end a training in the same way; tests/cli/test_streams.py has their exit codes.
TESTED = ("kill", "terminate", "disk full")

RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from research.studies.faults import PRODUCTS, run_faults
cases = run_faults(PRODUCTS[sys.argv[1]], Path(sys.argv[2]), 2, tuple(sys.argv[3:]))
print(json.dumps({fault: [asdict(case) for case in own] for fault, own in cases.items()}))
"""


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_training_that_is_stopped_resumes_to_the_same_bits(product, tmp_path):

    # In a process without threads, which can be forked.
    done = subprocess.run(
        [sys.executable, "-c", RUN, product, str(tmp_path), *TESTED],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout.splitlines()[-1])
    assert set(cases) == set(TESTED)
    for fault, own in cases.items():
        for case in own:
            assert case["ended_well"], (fault, case)
            assert case["model_whole"] and case["same_bits"], (fault, case)
    table = faults_table({"products": {product: cases}})
    assert table.count(f"| {product} |") == len(TESTED)
