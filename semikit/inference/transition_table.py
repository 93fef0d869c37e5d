"""The table of transitions, from what to what in square metres, out of the rows of a table of areas."""

from __future__ import annotations

from collections.abc import Sequence

from semikit.core.transitions import Transitions

Rows = Sequence[Sequence[object]]


def transition_rows(rows: Rows, head: Sequence[str]) -> list[list[object]]:
    """The head, and of each map (and feature) a row for each class of the first date; columns are those of the second.

    `rows` begin with the cells of `head`, which say of what they are, then hold number, name, pixels, square metres
    (empty without CRS) and share of each class. A transition that is no class is empty. Nothing, where the classes are
    no transitions.
    """
    each: dict[tuple[object, ...], list[Sequence[object]]] = {}
    for row in rows:
        each.setdefault(tuple(row[: len(head)]), []).append(row[len(head) :])
    found = Transitions.of([str(row[1]) for row in next(iter(each.values()), [])])
    if found is None:
        return []
    table: list[list[object]] = [[*head, "unit", "from", *found.names]]
    for key, classes in each.items():
        pixels = any(row[3] == "" for row in classes)
        ends = zip(found.before, found.after, strict=True)
        sizes = {pair: row[2 if pixels else 3] for pair, row in zip(ends, classes, strict=True)}
        for before, name in enumerate(found.names, 1):
            cells = [sizes.get((before, after), "") for after in range(1, len(found.names) + 1)]
            table.append([*key, "pixels" if pixels else "m2", name, *cells])
    return table
