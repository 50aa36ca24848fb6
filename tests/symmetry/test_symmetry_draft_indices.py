"""Indices of a trace: united, split into factors, cut into pieces, held where they cannot be one."""

from __future__ import annotations

from hubmerge.symmetry.draft_indices import Indices


def test_an_axis_that_is_one_with_a_product_is_that_product() -> None:
    indices = Indices()
    (twelve,), three, four = indices.axis(12), indices.axis(3), indices.axis(4)
    indices.unite((twelve,), (*three, *four))
    assert indices.factors((twelve,)) == indices.factors((*three, *four))
    assert indices.length((twelve,)) == 12


def test_query_heads_that_meet_repeated_kv_heads_become_groups_in_them() -> None:
    indices = Indices()
    query, kv, times = indices.axis(8), indices.axis(2), indices.axis(4, constant=True)
    indices.unite(query, (*kv, *times))
    assert [indices.size(index) for index in indices.factors(query)] == [2, 4]
    assert indices.factors(query)[0] == indices.find(kv[0])
    assert not indices.is_constant(kv)


def test_pieces_of_a_fused_axis_are_indices_of_their_own() -> None:
    indices = Indices()
    (fused,) = indices.axis(12)
    indices.cut(fused, (4, 8))
    pieces = indices.pieces(fused)
    assert [indices.size(piece) for piece in pieces] == [4, 4, 4]
    (own,) = indices.axis(4)
    indices.unite((pieces[1],), (own,))
    assert indices.pieces(fused) == (pieces[0], indices.find(own), pieces[2])


def test_halves_that_change_places_are_one_index() -> None:
    indices = Indices()
    (head,) = indices.axis(8)
    indices.cut(head, (4,))
    first, second = indices.pieces(head)
    indices.unite((head,), indices.joined([second, first]))
    assert indices.find(first) == indices.find(second)
    assert not indices.is_held(first)


def test_a_product_that_is_to_be_a_concatenation_is_held_and_so_are_its_parts() -> None:
    indices = Indices()
    (product,), (fused,) = indices.axis(12), indices.axis(12)
    parts = indices.split(product, (3, 4))
    indices.cut(fused, (5,))
    pieces = indices.pieces(fused)
    indices.unite((product,), (fused,))
    assert all(indices.is_held(index) for index in (*parts, *pieces))


def test_sizes_without_a_common_factor_are_held() -> None:
    indices = Indices()
    left, right = (*indices.axis(4), *indices.axis(9)), (*indices.axis(6), *indices.axis(6))
    indices.unite(left, right)
    assert all(indices.is_held(index) for index in (*left, *right))


def test_what_is_held_stays_held_when_it_is_united_and_split() -> None:
    indices = Indices()
    (left,), (right,) = indices.axis(6), indices.axis(6)
    indices.hold((left,))
    indices.unite((right,), (left,))
    assert all(indices.is_held(part) for part in indices.split(right, (2, 3)))
