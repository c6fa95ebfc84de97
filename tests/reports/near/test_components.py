import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embedkit.reports.near.components import components, joined, no_edges, star


def same_partition(left, right):
    pairs = set(zip(left.tolist(), right.tolist(), strict=True))
    return len(pairs) == len(set(left.tolist())) == len(set(right.tolist()))


def of_scipy(count, edges):
    values = np.ones(len(edges))
    matrix = coo_array((values, (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(matrix, directed=False)[1]


nodes = st.integers(1, 40).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=60),
    )
)


@given(nodes)
def test_components_are_those_of_scipy_by_their_least_node(graph):
    count, pairs = graph
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    labels = components(count, edges)
    assert same_partition(labels, of_scipy(count, edges))
    for label in set(labels.tolist()):
        assert label == np.flatnonzero(labels == label).min()


@pytest.mark.parametrize("order", ["up", "down", "random"])
def test_a_long_path_is_one_component(order):
    count = 20_000
    path = np.arange(count)
    if order == "random":
        np.random.default_rng(0).shuffle(path)
    edges = np.column_stack([path[:-1], path[1:]])
    labels = components(count, edges[::-1] if order == "down" else edges)
    assert not labels.any()


def test_a_star_connects_what_was_connected():
    edges = np.random.default_rng(1).integers(0, 300, (200, 2))
    labels = components(300, edges)
    again = star(labels)
    assert len(again) == 300 - len(set(labels.tolist()))
    assert (components(300, again) == labels).all()


def test_numbers_of_any_size_are_joined():
    edges = np.array([[7 << 40, 3], [9, 7 << 40], [5, 11]])
    numbers, labels = joined(edges)
    assert numbers.tolist() == [3, 5, 9, 11, 7 << 40]
    assert labels.tolist() == [3, 5, 3, 5, 3]
    assert [len(one) for one in joined(no_edges())] == [0, 0]
