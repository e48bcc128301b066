#!/usr/bin/env python3
"""Record a real run at a terminal, and draw the pictures of README and docs from it.

usage: scripts/screenshots.py record FOLDER your_ai-ARGUMENTS…
       scripts/screenshots.py draw FOLDER

`record` runs your_ai in a terminal of 96 columns, and saves its output with timestamps and the
run's folder. Use a machine with a large GPU. `draw` writes docs/terminal.png (the terminal during
the last trial) and docs/report.png; it needs Chromium and tmux.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

COLUMNS, LINES = 96, 28
DOCS = Path(__file__).resolve().parent.parent / "docs"
SECONDS_BEFORE_END = 12.0
"""The terminal is shown so long before the last trial's line is complete."""


def record(folder: Path, arguments: list[str]) -> None:
    """Run the command in a pseudo-terminal, shown here too."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "your_ai", *arguments, "--run-dir", str(folder / "run")]
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    started = time.monotonic()
    with (folder / "terminal.jsonl").open("w", encoding="utf-8") as file:
        while part := read(controller):
            sys.stdout.buffer.write(part)
            sys.stdout.flush()
            line = {"at": time.monotonic() - started, "text": part.decode("latin-1")}
            file.write(json.dumps(line) + "\n")
    sys.exit(process.wait())


def read(descriptor: int) -> bytes:
    """The next part of the output; nothing once the command has ended."""
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the closed terminal so
        return b""


def draw(folder: Path) -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(screen(folder)))
    page_text = console.export_html(theme=MONOKAI, inline_styles=True)
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 600}, device_scale_factor=2)
        page.set_content(page_text)
        page.add_style_tag(content="body { margin: 0 } pre { padding: 16px; width: fit-content }")
        page.locator("pre").screenshot(path=DOCS / "terminal.png")
        page.set_viewport_size({"width": 1000, "height": 690})
        page.goto((folder / "run" / "report.html").resolve().as_uri())
        page.wait_for_function("document.querySelector('[data-chart] svg')")
        page.screenshot(path=DOCS / "report.png")
        browser.close()


def screen(folder: Path) -> str:
    """What the terminal showed shortly before the end of the last trial, with colors."""
    lines = (folder / "terminal.jsonl").read_text(encoding="utf-8").splitlines()
    parts = [json.loads(line) for line in lines]
    ended = max(part["at"] for part in parts if "✓" in decoded(part) or "✗" in decoded(part))
    shown = b"".join(
        part["text"].encode("latin-1") for part in parts if part["at"] < ended - SECONDS_BEFORE_END
    )
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "screen").write_bytes(shown)
        tmux = ["tmux", "-S", f"{scratch}/socket"]
        show = f"cat {scratch}/screen; tmux -S {scratch}/socket wait-for -S shown; sleep 60"
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        subprocess.run([*tmux, "-f", os.devnull, "new-session", "-d", *size, show], check=True)
        subprocess.run([*tmux, "wait-for", "shown"], check=True, timeout=30)
        captured = subprocess.run(
            [*tmux, "capture-pane", "-e", "-p"], check=True, capture_output=True, text=True
        )
        subprocess.run([*tmux, "kill-server"], check=True)
    return captured.stdout.rstrip()


def decoded(part: dict[str, str]) -> str:
    """The text of a part, where it may begin or end inside a character."""
    return part["text"].encode("latin-1").decode(errors="replace")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", folder, *arguments] if arguments:
            record(Path(folder), arguments)
        case ["draw", folder]:
            draw(Path(folder))
        case _:
            sys.exit(__doc__)
