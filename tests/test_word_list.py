"""Standard terms, one for each thing: what the project does not say, and what it says instead."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Pattern: the standard term. A pattern matches whole words, also inside names with underscores.
WORDS = {
    # names
    r"several_labels_": "multi_label_",
    r"max_grams|max-grams|(?<!n-)(?<!n_)grams?(?!_accuracy)": "n-grams (max_ngrams)",
    r"damped": "harmonic",
    r"validation_share|validation-share": "validation_fraction",
    r"telling": "top features, discriminative",
    r"RunningDocument|--one-document": "StreamingDocument, --stream",
    r"read_predictor": "load_predictor",
    r"MultimodalModel(?!\")": "MultimodalClassifier, MultimodalRegressor",
    r"pictures?|Pictures?": "image",
    r"Sounds?": "audio",
    r"word_rate": "embedding_learning_rate",
    r"rivals?|Rivals?|RIVALS": "baseline",
    r"RotatingDecay|\"rotation\"": "complex decay",
    r"ContentGate": "InputGate",
    r"\.carried": "State.sums",
    r"honest": "corrected",
    r"max_mb|max-mb": "max_size_mb",
    r"docs/s|s/epoch": "documents/s, s per epoch",
    r"perplexity a token|bits a byte": "perplexity, bits per byte",
    # inside
    r"Answers|Stepper|Learner|publish|Recipe": "LabelDecoder, TrainStep, FusedTrainer, ...",
    r"SIDE_BY_SIDE|(?:MOST|LEAST|GREATEST)_[A-Z_]+": "MICROBATCH, MAX_..., MIN_...",
    r"TOKENS_A_CHUNK|documents_a_batch": "TOKENS_PER_CHUNK, documents_per_batch",
    r"foretell\w*|foretold": "predict",
    r"fading": "decaying",
    r"stretch(?:es)?|Stretch(?:es)?": "chunk",
    r"wide_type": "accumulator_dtype",
    r"in_turns|in turns": "interleaved",
    r"bracketed": "learning-rate search",
    r"judges?|judged|yardsticks?": "digit classifier, generation metrics",
    r"hold_out": "train_validation_split",
    r"house|test_house": "architecture, package, module",
    # prose
    r"told": "reported",
    r"is no (?:folder|file|number|list|model|checkpoint|JSON|Parquet)\b": "is not a ...",
    r"there is no such": "expected one of ...",
    r"the source's|the source document": "Ekin (2025), the original README",
    r"a second time(?=s)|(?:tokens|documents|rows|texts) a second": "per second",
    r"(?:weights|numbers|bytes|bits|seconds|labels?|one|line|vector) a "
    r"(?:byte|class|column|document|epoch|file|line|number|place|row|step|text|token|word)": "per",
}


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", *patterns]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.splitlines() if (ROOT / name).exists()]


@pytest.mark.parametrize("pattern", WORDS)
def test_standard_terms_are_used(pattern):
    word = re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])")
    found = []
    for path in tracked("*.py", "*.md", "*.toml", "Makefile"):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if word.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    listed = "\n".join(found[:20])
    assert not found, f"{len(found)} lines; say {WORDS[pattern]!r}:\n{listed}"
