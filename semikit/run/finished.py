"""A finished run, as programs see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from semikit.core.task import Scores
    from semikit.run.load import Model


@final
@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, and what `results.json` holds; of several seeds what `summary.json` does."""

    folder: Path
    results: Mapping[str, Any]

    @property
    def scores(self) -> Scores:
        """Those of the best network: on the test images where they were read, else on those it was chosen on; of
        several seeds their mean.
        """
        from semikit.core.task import Scores

        metric = self.results["metric"]
        if "seeds" in self.results:
            return Scores(metric, self.results.get("test", self.results)["mean"])
        if "test" in self.results:
            test = dict(self.results["test"])
            per_class, class_scores = test.pop("per_class"), test.pop("class_scores", {})
            return Scores(metric, test.pop(metric), per_class, test, class_scores)
        class_scores = self.results.get("class_scores", {})
        return Scores(metric, self.results["best"]["value"], self.results["per_class"], class_scores=class_scores)

    @property
    def history(self) -> list[dict[str, float]]:
        """The rows of `results.csv`, one an evaluation, as `pandas.DataFrame` takes them: iterations are whole numbers,
        all else floats; what was not measured has no key.
        """
        from semikit.training.tracking import read_rows

        return read_rows(self.folder)

    def _repr_html_(self) -> str:
        from jinja2 import Template

        from semikit.training.reporter import duration

        source = files("semikit.run").joinpath("card.html").read_text("utf-8")
        given = {"folder": self.folder, "results": self.results, "rows": self.history, "duration": duration, "most": 24}
        card: str = Template(source, autoescape=True, trim_blocks=True).render(given)
        return card

    def load(self, device: str = "auto") -> Model:
        """The best network of the run."""
        from semikit.run.load import load

        return load(self.folder, device)
