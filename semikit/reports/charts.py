"""Lines as numbers of a drawing: what the page's macros need to draw a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 22, 12, 30

Points = Sequence[tuple[float, float]]


@final
@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) under a name in the colour of this number; `marks` are not joined."""

    name: str
    points: Points
    colour: int
    dashed: bool = False
    marks: bool = False


@final
@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over iterations."""

    title: str
    lines: Sequence[Line]

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        return [(self._x(value), f"{value:g}") for value in self._ticks(0, 5)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        return [(self._y(value), f"{value:g}") for value in self._ticks(1, 5)]

    def drawn(self, line: Line) -> list[tuple[float, float]]:
        """The points of a line in the drawing."""
        return [(self._x(x), self._y(y)) for x, y in line.points]

    def legend(self) -> list[Line]:
        """One line of each name: seeds of one run share theirs."""
        return list({line.name: line for line in self.lines}.values())

    def summary(self) -> str:
        """The chart in a sentence, for those who do not see it."""
        parts = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in self.lines]
        return f"{self.title}: {', '.join(parts)}"

    def _ticks(self, axis: int, count: int) -> list[float]:
        low, high = self._range(axis)
        whole = all(float(point[axis]).is_integer() for line in self.lines for point in line.points)
        found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
        return [float(value) for value in found if low <= value <= high]

    def _range(self, axis: int) -> tuple[float, float]:
        values = [point[axis] for line in self.lines for point in line.points]
        low, high = min(values), max(values)
        if axis == 0:
            return (0.0 if len(values) else low), high or 1.0
        room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
        return (max(low - room, 0.0) if low >= 0 else low - room), high + room

    def _x(self, value: float) -> float:
        low, high = self._range(0)
        return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)

    def _y(self, value: float) -> float:
        low, high = self._range(1)
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _BOTTOM - _TOP), 1)


def sparkline(values: Sequence[float], level: float, width: int = 90, height: int = 20) -> tuple[str, float]:
    """Values >= 0 as the points of a small line from 0 up, and the height at which `level` lies."""
    top, last = max(*values, level, 1e-9), max(len(values) - 1, 1)
    heights = [round(height - 2 - value / top * (height - 4), 1) for value in (*values, level)]
    places = zip((k / last * (width - 4) + 2 for k in range(len(values))), heights, strict=False)
    return " ".join(f"{x:.1f},{y}" for x, y in places), heights[-1]
