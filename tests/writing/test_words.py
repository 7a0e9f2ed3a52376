"""Words: what white space separates, without the punctuation around it."""

from charlm.writing.words import count_words


def test_words_are_counted_without_the_punctuation_around_them() -> None:
    counted = count_words(["Ay, the boat. The 'boat'\ufffd-- boat\n"])
    assert counted == {"Ay": 1, "the": 1, "The": 1, "boat": 3}


def test_a_long_row_of_marks_is_no_word() -> None:
    assert count_words(["=" * 200_000 + "a", "-" * 200_000]) == {"a": 1}  # and takes no time
