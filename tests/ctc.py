"""Noisy output of a recogniser for the tests of decoders."""

import numpy as np

BLANK = "-"


def noisy_frames(text: str, labels: list[str], blank: int, confusions: dict[int, str]) -> np.ndarray:
    """Returns log-probabilities (T, labels): characters with blanks between; some places favour a wrong one."""
    frames = np.full((2 * len(text), len(labels)), 1e-4)
    frames[1::2, blank] = 1
    for place, char in enumerate(text):
        frames[2 * place, labels.index(char)] = 1
        if place in confusions:
            frames[2 * place, labels.index(confusions[place])] = 1.5
    result: np.ndarray = np.log(frames / frames.sum(1, keepdims=True)).astype(np.float32)
    return result
