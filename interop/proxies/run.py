"""Runs `fourmodes check` through real proxies: nginx, HAProxy, nghttpx, Caddy.

    python3 interop/proxies/run.py [CASE...]
    python3 interop/proxies/run.py --table docs/proxies.md

Each case of cases.toml is a proxy's configuration and what `check` has to say
about it. What it said is kept in target/proxies, a file for each case; --table
makes the table from there. Needs Python 3.11, the proxies (on Debian: nginx
haproxy nghttp2-proxy caddy), and both binaries (`just build`).
"""

import concurrent.futures
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RESULTS = TARGET / "proxies"
# Seconds. Only what hangs comes to it.
PATIENCE = 30
# The silence that every path is asked for; the broken ones end it after one second.
IDLE = "3s"
GROUPS = ["connect", "modes", "status", "metadata", "control", "flow", "life", "balance", "extras"]

COMMANDS = {
    "nginx": lambda config, run: ["nginx", "-e", "stderr", "-p", run, "-c", config],
    "haproxy": lambda config, run: ["haproxy", "-db", "-q", "-f", config],
    "nghttpx": lambda config, run: ["nghttpx", "--conf", config],
    "caddy": lambda config, run: ["caddy", "run", "--adapter", "caddyfile", "--config", config],
}


class Failed(Exception):
    """What a case is told about."""


def main(arguments):
    cases = tomllib.loads((HERE / "cases.toml").read_text())["case"]
    if arguments[:1] == ["--table"]:
        Path(arguments[1]).write_text(table(cases))
        return 0
    if arguments:
        unknown = set(arguments) - {name(case) for case in cases}
        if unknown:
            print(f"no such case: {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        cases = [case for case in cases if name(case) in arguments]
    missing = [proxy for proxy in sorted({case["proxy"] for case in cases}) if not find(proxy)]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = 0
    # Two at a time: each spends most of its time waiting.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for case, wrong in zip(cases, pool.map(run, cases)):
            failed += bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':7}{name(case)}", *wrong, sep="\n       ", flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


def name(case):
    return f"{case['proxy']}/{case['config'].split('.')[0]}"


def find(proxy):
    """Debian keeps some of them where only root looks."""
    return shutil.which(proxy, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def run(case):
    """What is wrong with what `check` said."""
    try:
        checks = check(case)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        return [str(error)]
    (RESULTS / f"{name(case).replace('/', '-')}.jsonl").write_text("".join(json.dumps(c) + "\n" for c in checks))
    found = {f"{c['group']}/{c['name']}": c["outcome"] for c in checks}
    wrong = []
    for check_name, expected in case["expect"].items():
        outcome = found.pop(check_name, "not there")
        if outcome != expected:
            wrong.append(f"{check_name}: {outcome}, expected {expected}")
    # A good path has no other faults; a broken one may have.
    if case.get("good"):
        wrong += [f"{n}: {o}" for n, o in found.items() if o not in ("pass", "skip")]
    for c in checks:
        if c["outcome"] in ("fail", "warn") and not (c["cause"] and c["remedy"]):
            wrong.append(f"{c['group']}/{c['name']}: {c['outcome']} without cause and remedy")
    return wrong


def check(case):
    """The checks' lines in JSON, of a run through the proxy."""
    with tempfile.TemporaryDirectory() as directory, Processes(directory) as processes:
        servers = [processes.server() for _ in range(2)]
        port = free_port()
        config = Path(directory, case["config"])
        text = (HERE / case["proxy"] / case["config"]).read_text()
        values = {"dir": directory, "port": port, "server": servers[0], "second": servers[1]}
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", str(value))
        config.write_text(text)
        proxy = processes.start(COMMANDS[case["proxy"]](str(config), directory), executable=find(case["proxy"]))
        wait_until_it_listens(proxy, port)
        client = [TARGET / "debug/fourmodes", "check", f"http://127.0.0.1:{port}", "--idle", IDLE, "--output", "json"]
        done = subprocess.run(client, capture_output=True, text=True, timeout=5 * PATIENCE, env=environment())
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        checks = [line for line in lines if line["type"] == "check"]
        if not checks:
            raise Failed(f"no checks were made: {done.stderr.strip()[-500:]}")
        failed = any(c["outcome"] == "fail" for c in checks)
        if done.returncode != (1 if failed else 0):
            raise Failed(f"exit status {done.returncode}, {done.stderr.strip()[-500:]}")
        return checks


class Processes:
    """Programs that end with the block in which they were started."""

    def __init__(self, directory):
        self.directory, self.running = directory, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.terminate()
        for process in self.running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, command, **options):
        log = open(Path(self.directory, f"log-{len(self.running)}"), "w+")
        options = {"stdout": log, "stderr": log, "env": environment() | {"HOME": self.directory}} | options
        process = subprocess.Popen(command, **options)
        process.log = log
        self.running.append(process)
        return process

    def server(self):
        """Its port, which it chose."""
        command = [TARGET / "debug/fourmodes-server", "--listen", "127.0.0.1:0", "--data-dir", ":memory:", "all"]
        process = self.start(command, stdout=subprocess.PIPE, text=True)
        return int(process.stdout.readline().rsplit(":", 1)[1])


def environment():
    """Settings of the shell at hand are not under test."""
    return {key: value for key, value in os.environ.items() if not key.startswith("FOURMODES_")}


def free_port():
    """None of these proxies can be asked which port it was given. This one was
    free a moment ago; who takes it from the proxy makes it end, which is told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_listens(proxy, port):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if proxy.poll() is not None:
            proxy.log.seek(0)
            raise Failed(f"{proxy.args[0]} ended with {proxy.returncode}: {proxy.log.read().strip()[-500:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Failed(f"{proxy.args[0]} does not listen after {PATIENCE} s")


def table(cases):
    """docs/proxies.md, from what was kept."""
    results = {}
    for case in cases:
        kept = RESULTS / f"{name(case).replace('/', '-')}.jsonl"
        if not kept.exists():
            raise SystemExit(f"{name(case)} was not run: python3 interop/proxies/run.py")
        lines = map(json.loads, kept.read_text().splitlines())
        results[name(case)] = {f"{c['group']}/{c['name']}": c for c in lines}
    plain = [case for case in cases if case["config"].startswith("good.")]
    others = [case for case in cases if case not in plain]
    out = [INTRODUCTION.format(versions=", ".join(map(version, plain)))]
    out += [row("check", *(case["proxy"] for case in plain)), row(*["---"] * (len(plain) + 1))]
    for check_name in sorted(results[name(plain[0])], key=lambda it: (GROUPS.index(it.split("/")[0]), it)):
        out.append(row(check_name, *(results[name(case)][check_name]["outcome"] for case in plain)))
    notes = {}
    for case in plain:
        for check_name, c in results[name(case)].items():
            if c["outcome"] in ("fail", "warn"):
                notes.setdefault((check_name, c["cause"]), []).append(case["proxy"])
    out += ["", "What is not a pass:", ""]
    out += [f"- {check_name} ({', '.join(proxies)}): {cause}" for (check_name, cause), proxies in notes.items()]
    out += ["", "## Other configurations", "", row("configuration", "what it is", "what `check` says"), row(*["---"] * 3)]
    usual = {check_name for check_name, _ in notes}
    for case in others:
        config = f"{case['proxy']}/{case['config']}"
        comment = (HERE / config).read_text().splitlines()[0].removeprefix("# ")
        told = [
            f"**{check_name}** {c['outcome']}: {c['cause']}"
            for check_name, c in results[name(case)].items()
            if c["outcome"] in ("fail", "warn") and (check_name in case["expect"] and check_name not in usual)
        ]
        more = sum(
            c["outcome"] == "fail" and check_name not in case["expect"]
            for check_name, c in results[name(case)].items()
        )
        told += [f"and {more} more that follow from it" if more else ""] if told else ["nothing new"]
        link = f"[{config}](../interop/proxies/{config})"
        out.append(row(link, comment, "; ".join(filter(None, told))))
    return "\n".join(out) + "\n"


INTRODUCTION = """# Proxies

What `fourmodes check` says about real proxies in front of the server, each in a configuration that lets all four
modes through, and in some that do not. Made by `just proxies-table` from the JSON of `just proxies`, which runs
them on the loopback interface: {versions}.

## Good configurations
"""


def row(*cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def version(case):
    """As the program itself says it, shortened to its name and number."""
    flags = {"nginx": "-v", "haproxy": "-v", "nghttpx": "--version", "caddy": "version"}
    proxy = case["proxy"]
    said = subprocess.run([find(proxy), flags[proxy]], capture_output=True, text=True, check=True)
    number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return f"{proxy} {number[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
