"""docs/conformance.md, from the reports."""

import json
import re

from tools import GO, JAVA, OUT

HEAD = """# Other people's tests

<!-- `just conformance-table` makes this page from the reports of `just conformance`. -->

```text
just conformance          # every suite; needs Go 1.24 or later, a JDK, Maven, Node and Python
just conformance h2spec   # one of them
just conformance-short    # what CI runs
just conformance-soak     # cases again and again, load, and restarts meanwhile
just conformance-table    # this page, from the reports
```

Each suite leaves a report in `target/conformance`. A case that fails fails the run, unless it stands below with its cause.

- Connect's runner calls our service on `crates/stack`, and its server is called through `crates/transport`
  (`interop/conformance`). The runner wants errors to have no details but its own: the service leaves out the `ErrorInfo`
  of the stack (`--without-error-info`). The servers of the product always send it.
- h2spec, the interop clients and the other tools call `fourmodes-server`.
- The interop servers are called by `fourmodes call` and `fourmodes check --standard`.
- grpc-go and grpc-java publish their interop programs. grpc-js and grpcio do not: the cases are ours there
  (`node.mjs`, `grpcio_client.py`), the library is theirs.
"""


def table(suites, known):
    page = [HEAD, "| suite | passed | failed | left out |", "|---|---|---|---|"]
    failed, left_out = [], {}
    for suite in suites:
        path = OUT / f"report-{re.sub(r'[^a-z0-9]+', '-', suite.lower())}.json"
        if not path.exists():
            page.append(f"| {suite} | not run | | |")
            continue
        report = json.loads(path.read_text())
        page.append(f"| {suite} | {report['passed']} | {len(report['failed'])} | {len(report['skipped'])} |")
        for case in report["failed"]:
            cause = known.get(suite, {}).get(case, "not known")
            failed.append(f"| {suite} | `{case}` | {cause} |")
        for case, why in report["skipped"].items():
            cases, names = left_out.setdefault(why, ({}, {}))
            cases[case] = names[suite] = True
    page += ["", "## What does not pass", ""]
    page += ["| suite | case | cause |", "|---|---|---|", *failed] if failed else ["Everything passes."]
    page += ["", "## What is left out", "", "| why | cases | suites |", "|---|---|---|"]
    page += [f"| {why} | {', '.join(cases)} | {', '.join(names)} |" for why, (cases, names) in left_out.items()]
    page += ["", "## Versions", "", *(f"- `{version}`" for version in [*GO.values(), JAVA])]
    page += ["- `@grpc/grpc-js` and `grpcio` as `interop/node` and `interop/requirements.txt` have them"]
    return "\n".join(page) + "\n"
