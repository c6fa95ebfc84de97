"""Places on a map, against scikit-learn and SciPy."""

import importlib.util

import faiss
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from embedkit.reports.map import placed, tsne
from embedkit.reports.map.components import axes_of_rows, extent, principal_axes, turned
from embedkit.reports.map.placed import EarlierPlaces, method_for, moved, place_rows


def units_of(rows=400, width=12, kinds=6, seed=0):
    random = np.random.default_rng(seed)
    sizes = np.linspace(3, 1, width)
    vectors = (np.eye(width) * sizes)[random.integers(kinds, size=rows)]
    vectors = vectors + random.normal(size=(rows, width)) * np.linspace(0.9, 0.2, width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def covariance_of(units):
    return np.cov(units.astype(np.float64).T, bias=True).reshape(units.shape[1], -1)


def on_map(places, rows):
    """An earlier map that has some of the rows."""
    there = np.isin(np.arange(len(places)), rows)[:, None]
    return EarlierPlaces(np.where(there, places, np.nan))


@pytest.fixture(scope="module")
def drawn():
    """A map of 400 rows by t-SNE."""
    return place_rows(units_of(), "t-sne", None, covariance_of(units_of())).places


@pytest.mark.parametrize("wide", [False, True])
def test_principal_components_are_those_of_scikit_learn(wide):
    units = units_of()
    covariance = None if wide else covariance_of(units)
    found = place_rows(units, "pca", None, covariance)
    reference = PCA(2, svd_solver="full").fit(units.astype(np.float64))
    expected = reference.transform(units.astype(np.float64))
    signs = np.sign((found.places * expected).sum(axis=0))
    assert np.allclose(found.places, expected * signs, atol=1e-5)
    assert found.explained == pytest.approx(reference.explained_variance_ratio_, abs=1e-4)
    axes, _ = axes_of_rows(units) if wide else principal_axes(covariance)
    # Whatever the sign that an algorithm happens to give.
    assert (axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("wide", [False, True])
def test_few_dimensions_few_rows_and_equal_rows_have_places(wide):
    for units in (
        np.float32([[1], [-1], [1]]),
        np.ones((4, 3), "f4") / np.float32(3**0.5),
        np.float32([[0, 1]]),
    ):
        found = place_rows(units, "pca", None, None if wide else covariance_of(units))
        assert np.isfinite(found.places).all()
        assert np.allclose(found.places[:, 1], 0, atol=1e-6)
    assert np.allclose(found.places, 0)
    assert found.explained == (0, 0)


def test_a_map_is_turned_as_scipy_does():
    random = np.random.default_rng(0)
    earlier = random.normal(size=(50, 2))
    mirror = np.array([[0.0, 1], [1, 0]])
    known = np.arange(50) < 40
    assert np.allclose(turned(earlier @ mirror + 3, earlier, known), earlier)
    noisy = earlier + random.normal(size=(50, 2)) * 0.2
    apart = noisy[known] - noisy[known].mean(axis=0)
    aim = earlier[known] - earlier[known].mean(axis=0)
    matrix, _ = orthogonal_procrustes(apart, aim)
    expected = apart @ matrix + earlier[known].mean(axis=0)
    assert np.allclose(turned(noisy, earlier, known)[known], expected)


def test_a_map_of_components_stays_still_when_rows_change():
    units = units_of()
    earlier = place_rows(units, "pca", None, covariance_of(units)).places * [-1, 1]
    later = np.concatenate([units[:396], units_of(4, seed=5)])
    found = place_rows(later, "pca", on_map(earlier, range(396)), covariance_of(later))
    assert np.abs(found.places[:396] - earlier[:396]).max() < 0.3 * extent(earlier)
    assert found.moved == moved(found.places[:396], earlier[:396]) < 0.1
    anew = place_rows(later, "pca", None, covariance_of(later))
    assert anew.moved is None
    assert moved(anew.places[:396], earlier[:396]) > 0.5


def test_neighbours_are_those_of_scikit_learn(monkeypatch):
    units = units_of()
    rows, distances = tsne.neighbours_of(units)
    index = NearestNeighbors(n_neighbors=90, algorithm="brute").fit(units.astype(np.float64))
    expected, _ = index.kneighbors()
    assert rows.shape == distances.shape == (400, 90)
    assert np.allclose(distances, expected, atol=1e-3)
    assert not (rows == np.arange(400)[:, None]).any()
    monkeypatch.setattr(tsne, "_EXACT_ROWS", 100)
    threads = faiss.omp_get_max_threads()
    nearly, _ = tsne.neighbours_of(units)
    assert faiss.omp_get_max_threads() == threads
    shared = [len({*one} & {*other}) for one, other in zip(rows, nearly, strict=True)]
    assert np.mean(shared) > 0.8 * 90


def test_rows_that_are_all_alike_are_left_where_they_begin(monkeypatch):
    # openTSNE's grid of no extent ended the process.
    monkeypatch.setattr(tsne, "_TREE_ROWS", 100)
    alike = np.ones((300, 4), np.float32) / 2
    found = place_rows(alike, "t-sne", None, covariance_of(alike))
    assert not found.places.any()
    # Only those that are placed first are alike.
    monkeypatch.setattr(tsne, "_LAID_FIRST", 200)
    some = alike.copy()
    some[250:] = [1, 0, 0, 0]
    found = place_rows(some, "t-sne", None, covariance_of(some))
    assert np.isfinite(found.places).all()
    assert len(np.unique(found.places, axis=0)) == 2
    again = place_rows(some, "t-sne", EarlierPlaces(found.places + 0.1), covariance_of(some))
    assert np.isfinite(again.places).all()


def test_equal_rows_are_no_neighbours_of_themselves():
    rows, distances = tsne.neighbours_of(np.ones((200, 4), np.float32) / 2)
    assert rows.shape == (200, 90)
    assert (distances == 0).all()
    assert (rows == np.arange(200)[:, None]).sum() == 0


def test_neighbours_stay_neighbours(drawn):
    units = units_of()
    plain = place_rows(units, "pca", None, covariance_of(units)).places
    assert trustworthiness(units, drawn) > trustworthiness(units, plain) + 0.05


def test_of_many_rows_the_first_are_laid_out_and_the_others_join_them(monkeypatch, drawn):
    monkeypatch.setattr(tsne, "_LAID_FIRST", 250)
    units = units_of()
    found = place_rows(units, "t-sne", None, covariance_of(units)).places
    assert trustworthiness(units, found) > trustworthiness(units, drawn) - 0.03


def test_with_some_new_rows_the_others_stay_exactly_where_they_were(drawn):
    """Nothing is turned or scaled before it is compared."""
    later = np.concatenate([units_of()[:396], units_of(4, seed=5)])
    found = place_rows(later, "t-sne", on_map(drawn, range(396)), covariance_of(later))
    assert np.array_equal(found.places[:396], drawn[:396])
    assert (found.moved, found.beside) == (0, 0.01)
    near, _ = tsne.neighbours_of(later)
    for row in range(396, 400):
        known = near[row][near[row] < 396][:5]
        assert np.allclose(found.places[row], np.median(drawn[known], axis=0))


def test_with_many_new_rows_the_others_move_a_little(drawn):
    later = np.concatenate([units_of()[:320], units_of(80, seed=5)])
    found = place_rows(later, "t-sne", on_map(drawn, range(320)), covariance_of(later))
    apart = np.linalg.norm(found.places[:320] - drawn[:320], axis=1) / extent(drawn)
    assert 0 < apart.mean() < 0.1
    assert np.quantile(apart, 0.99) < 0.3
    assert (found.moved, found.beside) == (pytest.approx(apart.mean(), abs=0.002), 0)
    anew = place_rows(later, "t-sne", None, covariance_of(later))
    without = np.linalg.norm(anew.places[:320] - drawn[:320], axis=1) / extent(drawn)
    print(f"moved {apart.mean():.3f}, at most {apart.max():.3f}; anew {without.mean():.3f}")
    assert without.mean() > 0.3
    assert trustworthiness(later, found.places) > trustworthiness(later, anew.places) - 0.03


def test_few_new_rows_night_by_night_are_many_in_the_end(drawn):
    units, places, share = units_of(), drawn, 0.0
    for night in range(3):
        units = np.concatenate([units[16:], units_of(16, seed=night + 9)])
        earlier = np.concatenate([places[16:], np.full((16, 2), np.nan)])
        found = place_rows(units, "t-sne", EarlierPlaces(earlier, share), covariance_of(units))
        assert found.beside == pytest.approx((0.04, 0.08, 0)[night])
        assert (found.moved > 0) == (night == 2)
        places, share = found.places, found.beside


def test_the_same_rows_stay_exactly_where_they_were(drawn):
    found = place_rows(units_of(), "t-sne", EarlierPlaces(drawn, 0.07), covariance_of(units_of()))
    assert np.array_equal(found.places, drawn)
    assert (found.moved, found.beside) == (0, 0.07)


def test_a_map_of_few_of_the_rows_is_what_the_new_one_is_turned_to(drawn):
    mirrored = drawn * [-1, 1] + 100
    found = place_rows(units_of(), "t-sne", on_map(mirrored, range(40)), covariance_of(units_of()))
    apart = np.linalg.norm(found.places[:40] - mirrored[:40], axis=1)
    assert apart.mean() < 0.01 * extent(drawn)


@pytest.mark.parametrize("told", ["one place", "two rows", "nothing"])
def test_what_says_nothing_is_done_without(told):
    earlier = np.full((400, 2), np.nan)
    if told == "one place":
        earlier[:] = 3
    elif told == "two rows":
        earlier[:2] = [[100, 0], [0, 100]]
    expected = place_rows(units_of(), "pca", None, covariance_of(units_of()))
    found = place_rows(units_of(), "pca", EarlierPlaces(earlier), covariance_of(units_of()))
    assert np.array_equal(found.places, expected.places)
    assert found.moved is None


def test_threads_do_not_alter_a_bit(monkeypatch):
    changes = {"_EXACT_ROWS": 100, "_LAID_FIRST": 250, "_TREE_ROWS": 300, "_ONWARD": 5}
    for name, value in {**changes, "_TEARING": 20, "_SETTLING": 20}.items():
        monkeypatch.setattr(tsne, name, value)
    units = units_of(400, 40)
    found = []
    for threads in (1, 3):
        with threadpool_limits(threads):
            found.append(place_rows(units, "t-sne", None, covariance_of(units)).places)
    assert np.array_equal(*found)


def test_few_rows_and_what_is_not_installed_take_components(monkeypatch):
    assert method_for(placed.FEWEST_FOR_TSNE) == "t-sne"
    monkeypatch.setattr(tsne, "is_installed", lambda: pytest.fail("loaded"))
    assert method_for(placed.FEWEST_FOR_TSNE - 1) == "pca"
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openTSNE" else 1)
    assert method_for(placed.FEWEST_FOR_TSNE) == "pca"
