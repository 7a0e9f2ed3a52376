"""The experts: models that each predict the next symbol, and the mixture that multiplies their predictions.

The network is the first expert of every mixture. The others are counted from the training text before it is
trained, or trained by themselves (`FurtherNetworks`); each is a class like `NgramModel` in a file of its own, and
stands in `EXPERTS`.
"""

from __future__ import annotations

from charlm.experts.expert import CountedExpert
from charlm.experts.networks import FurtherNetworks
from charlm.experts.ngram import NgramModel
from charlm.experts.words import WordModel

# Every expert beside the network, in the order in which a mixture has them. A run keeps each in NAME.safetensors.
EXPERTS: tuple[type[CountedExpert], ...] = (NgramModel, WordModel, FurtherNetworks)
