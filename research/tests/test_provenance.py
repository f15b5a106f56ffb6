"""Where results come from."""

from __future__ import annotations

import json

import pytest

from research.provenance import find_unnamed_mixtures, list_sources, mixture_note


def measured(commit, processor="a processor"):
    return {"environment": {"commit": commit, "processor": processor}}


def test_a_file_has_the_commits_of_all_its_measurements(tmp_path):
    files = {
        "one": {**measured("abc"), "rows": 3},
        "sets": {"r8": measured("abc"), "mr": measured("def"), "imdb": measured(None)},
    }
    for name, content in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    one, sets = list_sources(tmp_path)
    assert (one.commit, one.processor, one.command) == ("abc", "a processor", "not recorded")
    assert (sets.commit, sets.processor) == ("abc, def, not recorded", "a processor")


def test_a_table_names_the_commits_that_it_mixes():
    assert mixture_note({"r8": measured("abc"), "mr": measured("abc")}) == ""
    mixed = {"r8": measured("abc"), "mr": measured("def"), "imdb": measured("abc", "another")}
    assert mixture_note(mixed) == (
        "\nCommits: abc (r8, imdb); def (mr).\n"
        "\nProcessors: a processor (r8, mr); another (imdb).\n"
    )


def test_a_table_of_several_commits_says_so_in_its_section(tmp_path):
    folder = tmp_path / "results" / "speed"
    folder.mkdir(parents=True)
    page = "# Speed\n\n<!-- table: results/speed/table.md -->\n\n%s\n\n# Other\n\nAt two commits.\n"
    for commit, caption, mistakes in (
        ("abc", "Medians.", 0),
        ("abc, def", "Medians.", 1),
        ("abc, def", "Medians, of two commits.", 0),
    ):
        (folder / "results.json").write_text(json.dumps(measured(commit)))
        found = find_unnamed_mixtures(page % caption, tmp_path)
        assert len(found) == mistakes


@pytest.mark.parametrize("content", ["", "[]", "3", '{"a": 3}', '{"environment": null}'])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json: not a file of results"):
        list_sources(tmp_path)
