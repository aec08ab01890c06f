"""docs/proxies.md, from what run.py has kept."""

import json

from products import HERE, version

GROUPS = ["connect", "modes", "status", "metadata", "control", "rules", "flow", "life", "balance", "extras"]

INTRODUCTION = """# Proxies

```sh
just proxies --all     # runs all paths
just proxies-table     # writes this page from the results
```

`fourmodes check` through real proxies in front of the server: {paths} paths, well and badly configured, on the loopback
interface.

{versions}.

A second client, which shares no code with `check`, tests each path too: grpcio, and HTTP/2 frames by Python's h2. It
verifies every failure and warning. It always verifies the four modes, the status, trailers, cancels, deadlines, concurrent
streams and 1,200 calls. A verdict that it contradicts fails the run. Of the {verdicts} verdicts below it confirmed
{confirmed}; {unknown} it could not judge.

## Good configurations

The configuration of each product for all four modes, and the remaining findings. ✓: the second client saw the same.
"""


def table(cases, results):
    found = {case["name"]: kept(results, case) for case in cases}
    good = [case for case in cases if case["name"].endswith("/good")]
    checks = [check for of_path in found.values() for check in of_path.values()]
    compared = [check for check in checks if check["seen"] is not None]
    out = [
        INTRODUCTION.format(
            paths=len(cases),
            versions=", ".join(version(proxy) for proxy in dict.fromkeys(case["proxy"] for case in cases)).capitalize(),
            verdicts=sum(check["outcome"] != "skip" for check in checks),
            confirmed=sum(map(is_confirmed, compared)),
            unknown=sum(check["truth"] is None for check in compared),
        )
    ]
    links = [f"[{case['proxy']}](../interop/proxies/{case['proxy']}/{case['config']})" for case in good]
    out += [row("check", *links), row(*["---"] * (len(good) + 1))]
    for name in sorted(found[good[0]["name"]], key=lambda it: (GROUPS.index(it.split("/")[0]), it)):
        out.append(row(name, *(verdict(found[case["name"]].get(name)) for case in good)))
    out += ["", *causes(found, good), "", "## All paths", ""]
    out += ["Each path is a good configuration, except for the named change.", ""]
    out += [row("path", "what it is", "findings of `check`", "second client"), row(*["---"] * 4)]
    for case in cases:
        of_path = found[case["name"]]
        seen = [check for check in of_path.values() if check["seen"] is not None]
        confirmed = sum(map(is_confirmed, seen))
        against = [check["check"] for check in seen if check["truth"] is not None and not is_confirmed(check)]
        unknown = sum(check["truth"] is None for check in seen)
        notes = [f"{confirmed} ✓", f"{unknown} not known" if unknown else "", *(f"{it} contradicted" for it in against)]
        out.append(row(case["name"], what(case), said(case, of_path), ", ".join(filter(None, notes))))
    return "\n".join(out) + "\n"


def kept(results, case):
    file = results / f"{case['name'].replace('/', '-')}.jsonl"
    if not file.exists():
        raise SystemExit(f"{case['name']} was not run: just proxies --all")
    return {check["check"]: check for check in map(json.loads, file.read_text().splitlines())}


def row(*cells):
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def is_confirmed(check):
    return check["truth"] is not None and check["truth"] == (check["outcome"] == "pass")


def verdict(check):
    if check is None:
        return ""
    return check["outcome"] + (" ✓" if is_confirmed(check) else "")


def causes(found, cases):
    notes = {}
    for case in cases:
        for name, check in found[case["name"]].items():
            if check["outcome"] in ("fail", "warn"):
                notes.setdefault((name, check["cause"]), []).append(case["proxy"])
    return ["Failures and warnings:", ""] + [f"- {name} ({', '.join(of)}): {cause}" for (name, cause), of in notes.items()]


def what(case):
    """As the case says it, or the first line of its configuration."""
    if "what" in case:
        return case["what"]
    return (HERE / case["proxy"] / case["config"]).read_text().splitlines()[0].lstrip("#/; ")


def said(case, of_path):
    """What was expected of it, which is what it is for; and how much else there is."""
    usual = {"control/reset", "extras/grpc-web", "extras/http1"}
    bad = {name: check for name, check in of_path.items() if check["outcome"] in ("fail", "warn") and name not in usual}
    parts = [f"**{name}** {bad[name]['outcome']}: {bad[name]['cause']}" for name in case["expect"] if name in bad]
    parts += [f"{name} {check['outcome']}" for name, check in bad.items() if name not in case["expect"]]
    return "; ".join(parts) or "nothing new"
