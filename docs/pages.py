"""A hook of MkDocs, for `make site`: pages that stand outside of docs/ are pages of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OTHERS = {
    ROOT / "README.md": "index.md",
    ROOT / "examples/README.md": "examples.md",
    ROOT / "benchmarks/README.md": "benchmarks.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Adds them. A link to a file that is none of the site's leaves its text."""

    def linked(match: re.Match[str], folder: Path) -> str:
        text, path, section = match[1], (folder / match[2]).resolve(), match[3] or ""
        if path not in OTHERS and not path.is_relative_to(ROOT / "docs"):
            return text[1:-1]
        return f"{text}({OTHERS.get(path) or path.relative_to(ROOT / 'docs')}{section})"

    for source, place in OTHERS.items():
        link = re.compile(r"(\[[^]]*\])\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")
        content = link.sub(lambda m, f=source.parent: linked(m, f), source.read_text("utf-8"))
        files.append(File.generated(config, place, content=content))
    return files
