"""Runs `fourmodes check` through real proxies, and holds its verdicts against what other clients see there.

    run.py [--all] [--repeat N] [CASE...]
    run.py --table docs/proxies.md

Each case of cases.toml is a path: a proxy, its configuration, and what `check` has to say about it. On each path
clients that share nothing with `check` (truth.py) find out whether what is no pass is none, and TEN always. Without
--all only the short cases run, as in CI. What was found is kept in target/proxies, a file for each case; --table makes
the table from there. `just proxies` makes what this needs; the proxies are those of products.py.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from products import CLIENT, HERE, PATIENCE, SERVER, TARGET, Failed, Processes, build_go, environment, free_port, is_there
from products import PRODUCTS
from table import table

RESULTS = TARGET / "proxies"
# The silence that every path is asked for, in seconds; the broken ones end it sooner.
IDLE = 3
# What other clients are asked for on each path, whatever `check` said.
TEN = [
    *["modes/unary", "modes/server-streaming", "modes/client-streaming", "modes/full-duplex"],
    *["status/codes", "status/trailing-metadata", "control/cancel", "control/deadline"],
    *["flow/streams", "life/1200-calls"],
]


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="and say which verdicts are not the same")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="how many paths at the same time")
    parser.add_argument("--table", metavar="FILE")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args(arguments)
    cases = tomllib.loads((HERE / "cases.toml").read_text())["case"]
    for case in cases:
        case["name"] = f"{case['proxy']}/{case.get('name', case['config'].split('.')[0])}"
    if options.table:
        Path(options.table).write_text(table(cases, RESULTS))
        return 0
    if unknown := set(options.cases) - {case["name"] for case in cases}:
        print(f"no such case: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    cases = [case for case in cases if case["name"] in options.cases or not options.cases and (options.all or case.get("short"))]
    proxies = sorted({case["proxy"] for case in cases})
    if missing := [f"{proxy} ({PRODUCTS[proxy].package})" for proxy in proxies if not is_there(proxy)]:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    if "go" in proxies:
        build_go()
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed, verdicts = 0, {}
    # Each spends most of its time waiting.
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = cases * options.repeat
        for case, (wrong, outcomes) in zip(runs, pool.map(run, runs)):
            failed += bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':7}{case['name']}", *wrong, sep="\n       ", flush=True)
            for check_name, outcome in outcomes.items():
                verdicts.setdefault((case["name"], check_name), []).append(outcome)
    for (case, check_name), outcomes in verdicts.items():
        # What could not be found out is no verdict.
        if len(set(outcomes) - {"skip"}) > 1:
            failed += 1
            print(f"FLAKY  {case} {check_name}: {', '.join(outcomes)}")
    print(f"{len(runs) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run(case):
    """What is wrong with what `check` said, and its verdicts."""
    try:
        checks = look(case)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        return [str(error)], {}
    (RESULTS / f"{case['name'].replace('/', '-')}.jsonl").write_text("".join(json.dumps(c) + "\n" for c in checks))
    found, wrong = {c["check"]: c["outcome"] for c in checks}, []
    outcomes = {n: o for n, o in found.items() if n not in case.get("chance", [])}
    for check_name, expected in case["expect"].items():
        outcome = found.pop(check_name, "not there")
        if outcome != expected:
            wrong.append(f"{check_name}: {outcome}, expected {expected}")
    shows = f". {case.get('shows')}: "
    if "shows" in case and not any(shows in c["remedy"] for c in checks if c["check"] in case["expect"]):
        wrong.append(f"no remedy names {case['shows']}")
    # A good path has no other faults; a broken one may have.
    if case.get("good"):
        wrong += [f"{n}: {o}" for n, o in found.items() if o not in ("pass", "skip")]
    for c in checks:
        if c["outcome"] in ("fail", "warn") and not (c["cause"] and c["remedy"]):
            wrong.append(f"{c['check']}: {c['outcome']} without cause and remedy")
        # It may be that nothing was found out, but not that it was the contrary.
        if c["check"] in outcomes and c["outcome"] != "skip" and c["truth"] not in (None, c["outcome"] == "pass"):
            wrong.append(f"{c['check']}: {c['outcome']} ({c['figure']}), but another client saw: {c['seen']}")
    return wrong, outcomes


def look(case):
    """The checks' lines in JSON, of a run through the proxy, each with what other clients saw."""
    with path(case) as target:
        checks = checked([CLIENT, "check", *target, "--idle", f"{IDLE}s", "--output", "json"])
    outcomes = {c["check"]: c["outcome"] for c in checks}
    wanted = [f"{it}={o}" for it, o in outcomes.items() if o in ("fail", "warn") or it in TEN and o != "skip"]
    # One that counts begins anew.
    with path(case) as target:
        _, seen = lines([sys.executable, HERE / "truth.py", *wanted, "--idle", str(IDLE), "--url", *target])
    seen = {it["check"]: it for it in seen}
    for c in checks:
        it = seen.get(c["check"], {"truth": None, "evidence": None})
        c["truth"], c["seen"] = it["truth"], it["evidence"]
    return checks


@contextlib.contextmanager
def path(case):
    """The proxy before two servers: its URL, with the option that names the CA."""
    with tempfile.TemporaryDirectory() as directory, Processes(directory) as processes:
        # Some proxies become another user.
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody")
            os.chmod(directory, 0o755)
        options = case.get("server", [])
        if "tls" in case:
            certs = Path(directory, "certs")
            subprocess.run([SERVER, "certs", "--dir", certs], capture_output=True, check=True)
            both = [(certs / name).read_text() for name in ("server.pem", "server-key.pem")]
            Path(directory, "both.pem").write_text("".join(both))
        servers = [processes.server(*(option.replace("{dir}", directory) for option in options)) for _ in range(2)]
        port = free_port()
        values = {"dir": directory, "port": port, "server": servers[0], "second": servers[1], "nobody": free_port()}
        processes.proxy(case["proxy"], case["config"], values, case.get("options", []), case.get("change"))
        if "tls" in case:
            yield [f"https://127.0.0.1:{port}", "--ca", Path(directory, case["tls"])]
        else:
            yield [f"http://127.0.0.1:{port}"]


def lines(command, statuses=(0,)):
    done = subprocess.run(command, capture_output=True, text=True, timeout=8 * PATIENCE, env=environment())
    if done.returncode not in statuses:
        raise Failed(f"{command[1]} left with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def checked(command):
    status, said = lines(command, (0, 1))
    checks = [line | {"check": f"{line['group']}/{line['name']}"} for line in said if line["type"] == "check"]
    if not checks or status != any(c["outcome"] == "fail" for c in checks):
        raise Failed(f"{len(checks)} checks, exit status {status}")
    return checks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
