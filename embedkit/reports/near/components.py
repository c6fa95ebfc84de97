"""Connected components by their least member."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Edges = NDArray[np.int64]
"""Pairs of rows, shape (n, 2)."""


def no_edges() -> Edges:
    """Returns no pair."""
    return np.empty((0, 2), np.int64)


def components(count: int, edges: Edges) -> Numbers:
    """Labels nodes with the least node that they are connected with.

    Roots are hooked to the least root beside them, and paths halved until all point at roots, as
    in Shiloach and Vishkin's algorithm.

    Args:
        count: How many nodes there are, numbered from 0.
        edges: Pairs of nodes that are connected, shape (n, 2).

    Returns:
        The label of each node, shape (count,).
    """
    labels = np.arange(count, dtype=np.int64)
    left, right = edges[:, 0], edges[:, 1]
    while True:
        ours, theirs = labels[left], labels[right]
        apart = ours != theirs
        if not apart.any():
            return labels
        left, right, ours, theirs = left[apart], right[apart], ours[apart], theirs[apart]
        np.minimum.at(labels, np.maximum(ours, theirs), np.minimum(ours, theirs))
        while not np.array_equal(further := labels[labels], labels):
            labels = further


def star(labels: Numbers) -> Edges:
    """Returns the fewest pairs that connect the same nodes: each with the least one of its own."""
    nodes = np.flatnonzero(labels != np.arange(len(labels)))
    return np.column_stack([labels[nodes], nodes])


def joined(edges: Edges) -> tuple[Numbers, Numbers]:
    """Joins pairs of any numbers to groups.

    Returns:
        The numbers that are in a pair, ascending, and the least number of the group of each.
    """
    nodes, places = np.unique(edges, return_inverse=True)
    labels = components(len(nodes), places.reshape(-1, 2).astype(np.int64))
    return nodes, nodes[labels]
