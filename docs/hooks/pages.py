"""Pages that are made from the code, and equations as MathML, so that the site fetches no script."""

import html
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))
from graph import draw  # beside this file, which is no package

ROOT = Path(__file__).parents[2]
HELP = re.compile(r"<!-- help: (.*?) -->")
HEADS = "<!-- configs -->"


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Fill in what a page takes from elsewhere."""
    if page.file.src_uri == "contributing.md":
        return (
            (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")
        )
    if page.file.src_uri == "changelog.md":
        return (ROOT / "CHANGELOG.md").read_text()
    markdown = re.sub(r"```mermaid\n(.*?)```", lambda found: draw(found[1]), markdown, flags=re.DOTALL)
    if HEADS in markdown:
        markdown = markdown.replace(HEADS, config_heads())
    if wanted := HELP.findall(markdown):
        with ThreadPoolExecutor(2) as pool:  # most of each is the import of torch
            texts = dict(zip(wanted, pool.map(help_of, wanted), strict=True))
        markdown = HELP.sub(lambda found: fenced(texts[found[1]]), markdown)
    return markdown


def on_page_content(html_text: str, **kwargs: Any) -> str:
    """Make MathML of what arithmatex has marked."""
    html_text = re.sub(
        r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda found: mathml(found[1], "inline"), html_text
    )
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>',
        lambda found: mathml(found[1], "block"),
        html_text,
        flags=re.DOTALL,
    )


def mathml(latex: str, display: str) -> str:
    """LaTeX as a `math` element."""
    made: str = convert(html.unescape(latex).strip(), display=display)
    return made


def help_of(words: str) -> str:
    """What a command prints as its help."""
    code = "import sys; sys.argv[0] = 'kronlit'; from kronlit.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100", "HF_HUB_OFFLINE": "1"},
    )
    return done.stdout


def fenced(text: str) -> str:
    """A text as a block of code."""
    return f"```text\n{text.strip()}\n```"


def config_heads() -> str:
    """The shipped YAMLs by folder, each with what its first comment says before the first full stop or colon."""
    lines = []
    for path in sorted((ROOT / "configs").rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        head = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
        name = path.relative_to(ROOT / "configs").as_posix().removesuffix(".yaml")
        lines.append(f"| `{name}` | {head.split(' kronlit ')[0].rstrip().replace('|', chr(92) + '|')} |")
    return "| `--config` | what its header says |\n|---|---|\n" + "\n".join(lines)
