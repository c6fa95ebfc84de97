"""Small corpora of words, in every format, and gensim called by hand on them."""

import random

import numpy as np
from gensim.models import Word2Vec

TOPICS = (
    "king queen prince crown throne palace castle royal court noble".split(),
    "bat ball pitch glove inning base runner coach team score".split(),
    "river bank water boat fish shore stream bridge flood delta".split(),
)
COMMON = "the of and to in is was for on with".split()


def texts(count: int = 300, seed: int = 7) -> list[str]:
    """Texts of lower-case words between single blanks, each about one of three topics."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        topic = draw.choice(TOPICS)
        words = [draw.choice(topic if draw.random() < 0.6 else COMMON) for _ in range(25)]
        made.append(" ".join(words))
    return made


def by_hand(sentences: list[list[str]], **settings: object) -> tuple[list[str], np.ndarray]:
    """The words and vectors that gensim itself makes of sentences, with one thread."""
    model = Word2Vec(sentences, workers=1, **settings)
    return list(model.wv.index_to_key), model.wv.vectors
