"""`Table`: an answer with several rows, that a notebook shows and pandas takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar, overload

__all__ = ["Table"]

Row = TypeVar("Row")


@dataclass(frozen=True)
class Table(Sequence[Row], Generic[Row]):
    """A sequence of records with named columns.  total: how many there are, of which `items` may be the first."""

    items: tuple[Row, ...]
    columns: Mapping[str, Callable[[Row], object]]
    total: int

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.items)

    def rows(self) -> tuple[tuple[object, ...], ...]:
        """The value of every column, row by row."""
        return tuple(tuple(column(item) for column in self.columns.values()) for item in self.items)

    def to_pandas(self) -> Any:
        """A pandas DataFrame of `rows`."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()), columns=list(self.columns))

    def _repr_html_(self) -> str:
        # names, licences and tags were typed by strangers
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{'' if value is None else escape(str(value))}</td>" for value in row) + "</tr>"
            for row in self.rows()
        )
        more = f"<p>{len(self)} of {self.total}</p>" if self.total > len(self) else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
