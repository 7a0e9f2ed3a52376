"""Progress: one line now and then, with the time that is left where the whole is known."""

from charlm.text.progress import Progress


def test_a_line_comes_after_five_seconds_and_then_every_ten() -> None:
    seconds = iter(range(99))
    told: list[str] = []
    progress = Progress("reading", 100_000, told.append, lambda: float(next(seconds)))
    for _ in range(30):
        progress.add(1000)
    assert told == [
        "reading: 5.0 kB of 100.0 kB, about 1m35s left",
        "reading: 15.0 kB of 100.0 kB, about 1m25s left",
        "reading: 25.0 kB of 100.0 kB, about 1m15s left",
    ]


def test_what_was_there_before_says_nothing_about_the_speed() -> None:
    now = 0.0
    told: list[str] = []
    progress = Progress("reading", 100_000, told.append, lambda: now)
    now = 4.0
    progress.keep(80_000)
    now = 14.0
    progress.add(10_000)
    assert told == ["reading: 90.0 kB of 100.0 kB, about 10 s left"]


def test_of_a_text_of_unknown_size_it_is_told_how_much_there_is_so_far() -> None:
    now = 0.0
    told: list[str] = []
    progress = Progress("reading", None, told.append, lambda: now)
    now = 6.0
    assert list(progress.watch(["画" * 1000])) == ["画" * 1000]
    assert told == ["reading: 3.0 kB so far"]
