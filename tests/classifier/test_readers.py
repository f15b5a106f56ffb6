"""Threads that predict, explain and stream while another one learns on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hyperagg import TextClassifier

TEXTS = ["good film", "bad film", "fine plot", "dull plot"] * 10
LABELS = ["yes", "no", "yes", "no"] * 10
# The vocabulary and the classes grow with every call.
MORE = [
    (["good plot anew", "odd thing"] * 5, ["yes", "odd"] * 5),
    (["weird thing indeed", "strange matter"] * 5, ["odd", "strange"] * 5),
    (["bad matter again", "new words here"] * 5, ["no", "other"] * 5),
]
ASKED = "a good but strange matter of new words, an odd plot indeed"


def answers(clf):
    """What a reader may ask, each as bytes and names that identify the state it came from."""
    explanation = clf.explain(ASKED)
    return {
        "proba": clf.predict_proba([ASKED, "film"]).tobytes(),
        "one": clf.predict_proba(ASKED).tobytes(),
        "top": repr(clf.predict(ASKED, top_k=9)),
        "explanation": (explanation.contributions.tobytes(), tuple(explanation.classes_)),
        "stream": clf.stream().append(ASKED).predict_proba().tobytes(),
        "evaluate": repr(clf.evaluate(["good film"], ["yes"])),
        "features": repr(clf.top_features(3)),
        "vectors": clf.word_vectors().tobytes(),
    }


def learn(clf, step):
    return clf.partial_fit(*step, seed=1)


def test_every_answer_belongs_to_one_state(tmp_path):
    def new():
        return TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS)

    clf, states = new(), []
    for step in (None, *MORE):
        if step is not None:
            learn(clf, step)
        states.append(answers(clf))
    allowed = {name: {state[name] for state in states} for name in states[0]}
    assert len(allowed["proba"]) == len(MORE) + 1

    clf, done, wrong, seen = new(), threading.Event(), [], set()

    def read():
        try:
            while not done.is_set():
                for name, answer in answers(clf).items():
                    if answer not in allowed[name]:
                        wrong.append(name)
                    if name == "proba":
                        seen.add(answer)
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for step in MORE:
        learn(clf, step)
    clf.save_pretrained(tmp_path / "model")
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen <= allowed["proba"]
    assert answers(clf) == states[-1]
    assert answers(TextClassifier.from_pretrained(tmp_path / "model")) == states[-1]


def test_quantizing_does_not_change_what_a_reader_has():
    clf = TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS)
    predictor = clf.predictor
    before = predictor.predict_proba(TEXTS)
    clf.quantize()
    np.testing.assert_array_equal(predictor.predict_proba(TEXTS), before)
    assert not np.array_equal(clf.predict_proba(TEXTS), before)


def test_an_interrupted_partial_fit_leaves_all_of_the_state():
    clf = TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS)
    before = answers(clf)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(*MORE[0], callbacks=[stop])
    assert answers(clf) == before


def test_two_trainings_at_once_are_both_learned():
    """The one that ended last used to replace what the other had learned."""
    clf = TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS)
    first, second = (["odd thing"] * 5, ["odd"] * 5), (["strange matter"] * 5, ["strange"] * 5)
    other = threading.Thread(target=clf.partial_fit, args=second)

    def begin(progress):
        if other.ident is None:
            other.start()
            other.join(0.5)  # it waits for this one

    clf.partial_fit(*first, callbacks=[begin])
    other.join()
    assert set(clf.classes_) == {"no", "yes", "odd", "strange"}
    assert clf.history_.num_texts == len(TEXTS) + 10
    assert clf.predict(["odd thing", "strange matter"]) == ["odd", "strange"]


def test_a_callback_may_train_on():
    clf = TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS)
    clf.partial_fit(TEXTS[:4], LABELS[:4], callbacks=[lambda progress: clf.quantize()])
    assert clf.predict("good film") == "yes"


def test_fits_in_threads_give_the_bits_of_one_after_the_other():
    """Each used to set the random state of the process."""

    def fit(seed):
        clf = TextClassifier(d_model=8, epochs=3).fit(TEXTS, LABELS, seed=seed)
        return clf.partial_fit(*MORE[0], seed=seed).predict_proba(TEXTS).tobytes()

    alone = [fit(seed) for seed in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(fit, range(4))) == alone
