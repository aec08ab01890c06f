"""docs/recording.svg: a run of both programs in a terminal, with its own timing, for light and dark.

    python3 interop/recording.py SERVER CLIENT docs/recording.svg
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from html import escape

COLUMNS = 96
CELL, LINE, MARGIN = 8.4, 19, 16
SERVER_LINES, CLIENT_LINES = 5, 18
SCENES = [
    "unary multiply 6 7",
    "server-streaming quotes --symbols ACME --count 3 --from-sequence 1 --interval 300ms",
    "check --only connect,modes",
]
TYPED, READ = 0.8, 3.5  # seconds before the output of a command, and after it
STYLES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "36": "blue"}
LOOK = """
svg { color-scheme: light dark; --back: #ffffff; --bar: #eaeef2; --text: #1f2328; --dim: #6e7781; --red: #cf222e;
  --green: #116329; --yellow: #7d4e00; --blue: #0550ae }
@media (prefers-color-scheme: dark) { svg { --back: #0d1117; --bar: #21262d; --text: #e6edf3; --dim: #8b949e;
  --red: #ff7b72; --green: #56d364; --yellow: #e3b341; --blue: #79c0ff } }
text { font: 14px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--text);
  white-space: pre }
.bold { font-weight: bold } .dim { fill: var(--dim) } .red { fill: var(--red) } .green { fill: var(--green) }
.yellow { fill: var(--yellow) } .blue { fill: var(--blue) }
@media (prefers-reduced-motion: reduce) { g { animation: none !important } .early { display: none } }
"""


def captured(command):
    """What a command writes to a terminal: the seconds since its start, and the line."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress bars
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    begun, lines, rest = time.monotonic(), [], ""
    while True:
        try:
            rest += os.read(terminal, 65536).decode()
        except OSError:  # the end, on Linux
            break
        *whole, rest = rest.split("\n")
        lines += [(time.monotonic() - begun, line.strip("\r")) for line in whole]
    _, status = os.waitpid(process, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return lines


def runs(line):
    """The parts of a line of one style: column, text, classes."""
    column, classes = 0, set()
    for escape_code, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", line):
        if text:
            yield column, text, " ".join(sorted(classes))
            column += len(text)
        elif escape_code in ("", "0"):
            classes = set()
        else:
            classes |= {STYLES[code] for code in escape_code.split(";") if code in STYLES}


def drawn(line, row):
    """A line as SVG. Each part has its place and its width, whatever font there is."""
    out, left = "", COLUMNS
    for column, text, classes in runs(line):
        text = text[: max(left - column, 0)]
        body = text.strip()
        if not body:
            continue
        x = MARGIN + (column + len(text) - len(text.lstrip())) * CELL
        out += f'<text x="{x:.1f}" y="{row * LINE}" textLength="{len(body) * CELL:.1f}" class="{classes}">{escape(body)}</text>'
    return out


def shown(number, scene, start, end, total, lines):
    """Lines that are there from one moment to another one of the loop."""
    if not lines:
        return "", ""
    begin, stop = (100 * it / total for it in (start, end))
    frames = f"@keyframes k{number} {{ 0%, {max(begin - 0.01, 0):.2f}% {{ opacity: 0 }} {begin:.2f}%, {stop - 0.01:.2f}% {{ opacity: 1 }} {stop:.2f}%, 100% {{ opacity: {int(stop >= 100)} }} }}\n"
    early = ' class="early"' if scene is not None and scene + 1 < len(SCENES) else ""
    return frames, f'<g{early} style="animation: k{number} {total:.1f}s step-end infinite">{lines}</g>\n'


def pane(y, title, height):
    box = f'<rect x="4" y="{y}" width="{COLUMNS * CELL + 2 * MARGIN - 8}" height="{height * LINE + 36}" rx="8" style="fill: var(--back); stroke: var(--bar)"/>'
    return box + f'<text x="{MARGIN}" y="{y + 20}" class="dim">{title}</text>\n'


def main(server, client, target):
    serving = subprocess.Popen(
        [server, "--listen", "127.0.0.1:0", "--data-dir", ":memory:", "all"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first = serving.stdout.readline().strip()
        address = first.split("//")[1]
        scenes = [captured([client, *scene.split(), "--server", f"http://{address}"]) for scene in SCENES]
    finally:
        serving.terminate()
        log = serving.communicate()[1]
    # The port is a free one; a reader has the default.
    usual = lambda text: text.replace(address, "127.0.0.1:50051")
    calls = [usual(line.split("Z  INFO ")[-1]) for line in log.splitlines() if "call: " in line and " ended" in line]

    total = sum(TYPED + lines[-1][0] + READ for lines in scenes)
    style, body, number = LOOK, "", 0
    top, bottom = 2.4, SERVER_LINES + 4.8
    body += f"<g>{drawn('$ just server', top)}{drawn(usual(first), top + 1)}</g>\n"
    start = 0.0
    for scene, (command, lines) in enumerate(zip(SCENES, scenes)):
        end = start + TYPED + lines[-1][0] + READ
        timed = [(start, f"$ just {command}")] + [(start + TYPED + at, usual(text)) for at, text in lines]
        timed = timed[: CLIENT_LINES + 1]
        for row, (at, text) in enumerate(timed):
            frames, group = shown(number, scene, at, end, total, drawn(text, bottom + row))
            style, body, number = style + frames, body + group, number + 1
        frames, group = shown(number, None, start + TYPED + lines[-1][0], total, total, drawn(calls[scene], top + 2 + scene))
        style, body, number = style + frames, body + group, number + 1
        start = end
    width = COLUMNS * CELL + 2 * MARGIN
    panes = pane(4, "server", SERVER_LINES) + pane(SERVER_LINES * LINE + 46, "client", CLIENT_LINES + 1)
    height = (SERVER_LINES + CLIENT_LINES + 1) * LINE + 90
    with open(target, "w") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img" '
            f'aria-label="Both programs in a terminal">\n<style>{style}</style>\n{panes}{body}</svg>\n'
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
