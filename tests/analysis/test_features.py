"""Features of a text are on where they should be."""

import pytest

from charlm.analysis.features import find_features


@pytest.mark.parametrize(
    ("name", "text", "on"),
    [
        ("inside quotes", 'a "bc" d "e', '  "bc    ' + "  "),
        ("inside quotes", 'a "b\n\nc" d"', " " * 7 + '" d '),
        ("inside quotes", "a “b” «c» d", "  “b  «c   "),
        ("inside brackets", "a (b [c) d] {e}", "  (b [c     {e "),
        ("inside brackets", "(a [b] c)d )", "(a [b] c    "),
        ("inside brackets", "(" + "x" * 1000 + ")(a)", " " * 1002 + "(a "),
        ("inside brackets", "[(a]b)", "[(a   "),
        ("end of a word", "It isn't so. Ok", " t     t  o    "),
        ("inside a name", "The King saw Mary. He, Tom, and I", "    King     Mary      Tom       "),
        ("inside a name", "a\nLord Bo", "       Bo"),
    ],
)
def test_features_are_on_where_they_should_be(name: str, text: str, on: str) -> None:
    (feature,) = [feature for feature in find_features(text, words=True) if feature.name == name]
    assert "".join(char if value else " " for char, value in zip(text, feature.values, strict=True)) == on


def test_indentation_is_before_something() -> None:
    (feature,) = [f for f in find_features("a\n  b c\n\n   \n\td", words=True) if f.name == "indentation"]
    assert feature.values.nonzero()[0].tolist() == [2, 3, 13]


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("place in the line", "ab\nc\n\nd", [0, 1, 0, 1, 0, 0, 1]),
        ("place in the clause", "船在，河。", [0, 1, 0, 1, 0]),
        ("place in the sentence", "船在，河。人", [0, 1, 2, 3, 0, 1]),
        ("end of a clause", "船在，河。人\n", [0, 1, 0, 1, 0, 1, 0]),
        ("inside a title", "在《船》中", [0, 1, 1, 0, 0]),
    ],
)
def test_features_of_chinese_text(name: str, text: str, values: list[int]) -> None:
    (feature,) = [feature for feature in find_features(text, words=False) if feature.name == name]
    assert feature.values.tolist() == values
