from __future__ import annotations

import subprocess
import sys


def test_a_missing_pytorch_is_one_line_that_names_the_extra():
    code = """
import sys
sys.modules["torch"] = None
try:
    import hyperagg.layers
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "hyperagg.layers requires torch: pip install 'hyperagg[torch]'"
    assert ran.stdout.strip() == expected, ran.stderr
