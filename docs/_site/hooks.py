"""What mkdocs is given beside docs/: what the code says of itself, and files of the repository; links hold."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import notebook
import reference

ROOT = Path(__file__).parents[2]
BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "docs/notebook.ipynb": "notebook.md",
}
"""Files of the repository that are called otherwise on the site."""


def _site_path(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return BESIDE.get(path, path.removeprefix("docs/"))


def _beside() -> list[str]:
    found = [*ROOT.glob("benchmarks/*.md"), *ROOT.glob("benchmarks/*.png"), *ROOT.glob("examples/**/*.*")]
    return ["CONTRIBUTING.md", "CHANGELOG.md", *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def on_config(config: Any) -> Any:
    """Every file of a folder stands in the navigation where its entry ends in a star, the newest report first."""
    pages = {"design": sorted(_site_path(p.relative_to(ROOT).as_posix()) for p in ROOT.glob("docs/design/*.md"))}
    pages["benchmarks"] = sorted((_site_path(p) for p in _beside() if re.match(r"benchmarks/.*md$", p)), reverse=True)
    pages["benchmarks"].sort(key=lambda path: not path.endswith("index.md"))
    for part in config.nav:
        for entries in part.values():
            for entry in entries:
                if isinstance(entry, dict):
                    entry.update({k: pages[v[:-2]] for k, v in entry.items() if v.endswith("/*")})
    return config


def on_files(files: Files, config: Any) -> Files:
    """What lies beside docs/, and the notebook as a page."""
    for path in _beside():
        files.append(File.generated(config, _site_path(path), abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "notebook.md", content=notebook.page(ROOT / "docs/notebook.ipynb")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links that hold in the repository hold on the site; what comes from the code stands where its comment is."""
    source = {site: path for path, site in BESIDE.items()}.get(page.file.src_uri, page.file.src_uri)
    source = source if (ROOT / source).exists() else f"docs/{source}"
    if source.startswith(("docs/design/", "docs/arch", "benchmarks/", "C")):  # found behind what users look for
        page.meta["search"] = {"boost": 0.001}

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        target = f"{target}/README.md" if (ROOT / target / "README.md").is_file() else target
        place = posixpath.relpath(_site_path(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({place}{match[2] or ''})"

    markdown = re.sub(r"<!-- reference: (\w+) -->", lambda match: getattr(reference, match[1])(), markdown)
    markdown = re.sub(r"<!-- settings: (\w+) -->", lambda match: reference.settings_of(match[1]), markdown)
    markdown = re.sub(r"\]\(((?![a-z]+:|#)[^)#\s]+)(#[^)]*)?\)", link, markdown)
    return re.sub(r"^(?!\s*(?:[-*|#>]|\d+\.|```)|\s*$)(.*)\n(?=- )", r"\1\n\n", markdown, flags=re.MULTILINE)
