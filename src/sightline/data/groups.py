"""Images that must stay together: twins, and what the user's `group` column names.

    groups = group_rows([pixel_digests, user_groups])      (N,) int64; equal numbers stay on one side of a split

Rows that share a value in any column are joined, and joins carry on (a with b, b with c: all three). Exact twins share
their decoded pixels, whatever the files are called and however they are packed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl


def group_rows(columns: Sequence[pl.Series]) -> npt.NDArray[np.int64]:
    """Connected components of 'has the same value in some column'; null joins nothing.

    Args:
        columns: each (N,), of any type; equal non-null values of one column join their rows.

    Returns:
        (N,) numbers of groups, from 0, in the order in which they first appear.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(columns[0])
    rows, values, above = [], [], n
    for column in columns:
        known = np.flatnonzero(column.is_not_null().to_numpy())
        codes = column.drop_nulls().rank("dense").to_numpy().astype(np.int64)
        rows.append(known)
        values.append(above + codes)
        above += int(codes.max(initial=0)) + 1
    row, value = np.concatenate(rows), np.concatenate(values)
    joins = np.ones(len(row), dtype=np.int8)
    graph = coo_matrix((joins, (row, value)), shape=(above, above))  # type: ignore[no-untyped-call]
    found = connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[inverse]
