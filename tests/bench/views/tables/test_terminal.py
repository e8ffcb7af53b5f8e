"""Tables in a terminal: their width, what is left out, marks; and what a user wants of a table."""

import pytest

from bench.errors import UsageError
from bench.views.listing import Listing
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render
from bench.views.tables.table import build_table
from bench.views.tables.terminal import BEST, Screen

from ...made_up import results


def table(**options):
    return build_table(results(["transformer", "s4", "seqboat"], blocks=3), **options)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_and_no_word_is_broken(width):
    whole = render(table(), "terminal")
    text = render(table(), "terminal", screen=Screen(width))
    assert max(map(len, text.splitlines())) <= width < max(map(len, whole.splitlines()))
    assert set(text.split()) - {"left", "out", "fit", "letters:", str(width)} <= {
        part for word in whole.split() for part in (word, f"{word},")
    }


def test_what_is_left_out_is_named_and_figures_of_speed_stay():
    text = render(table(), "terminal", screen=Screen(60))
    assert "left out to fit 60 letters: " in text
    assert "Params" in text.split("left out")[1]
    assert "Speed" in text.split("left out")[0]


def test_chosen_columns_are_never_left_out_but_stand_below_each_other():
    choice = Choice(columns=["speed", "95% interval", "mem", "ms/step", "params", "peak memory"])
    text = render(table(), "terminal", choice, Screen(50))
    assert "left out" not in text
    assert text.count("SeqBoat  ") == text.count("Model  ") > 1


def test_marks_are_for_terminals_and_names_stay_text():
    assert BEST in render(table(), "terminal", screen=Screen(marks=True))
    assert "\x1b" not in render(table(), "terminal")
    hostile = render(table(), "terminal", Choice(rename={"seqboat": "a\x1b]0;b\x07"}), Screen(marks=True))
    assert "\x1b]0" not in hostile


def test_rows_columns_order_and_names():
    choice = Choice(
        columns=["mem", "speed"], sort="speed", rename={"SeqBoat": "Ours", "mem": "M"}, notes=False
    )
    lines = render(table(models=["transformer", "seqboat"]), "markdown", choice).splitlines()
    assert lines[0].startswith("| Model | M | Speed")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| Ours", "| Transformer"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(columns=["sped"]), "--columns sped: did you mean 'speed'?"),
        (Choice(sort="nothing"), "--sort nothing: choose model, "),
        (Choice(rename={"SeqBot": "Ours"}), "--rename SeqBot: did you mean 'seqboat'?"),
    ],
)
def test_names_that_a_table_lacks(choice, message):
    with pytest.raises(UsageError) as caught:
        render(table(), "markdown", choice)
    assert str(caught.value).startswith(message)
    with pytest.raises(UsageError) as caught:
        render(table(), "csv", choice)
    assert str(caught.value).startswith(message.partition("did you")[0].partition("choose")[0])


def test_a_model_without_a_row_is_named():
    with pytest.raises(UsageError, match="--rows seqbot: did you mean"):
        table(models=["seqbot"])


def test_latex_notes_are_apart_from_the_tabular():
    text = render(table(), "latex")
    assert text.index(r"\end{tabular}%") < text.index(r"\long\gdef\benchnotes{")
    assert "benchnotes" not in render(table(), "latex", Choice(notes=False))


def test_a_list_without_rows_fits_any_screen():
    text = render(Listing.of([], None, ("name", "path")), "terminal", screen=Screen(20))
    assert "name" in text


def test_what_a_query_finds_is_shown_whatever_it_is():
    found = Listing.of([{"x": {"a": 1}, "y": 2}])
    assert '{"a": 1}' in render(found, "terminal", screen=Screen(80))
    assert render(found, "csv").splitlines() == ["x,y", '"{""a"": 1}",2']
    assert "resolved" not in render(Listing.of([{"name": "ci", "resolved": {}}]), "terminal")
