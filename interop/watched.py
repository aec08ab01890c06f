#!/usr/bin/env python3
"""The server with `fourmodes watch` before it.

Its arguments are the paths of the server and of the client, and what the server is
told. It fails when the decoder of `watch` was lost.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

SERVER, CLIENT, *ARGUMENTS = sys.argv[1:]


def main():
    if "--listen" not in ARGUMENTS:
        os.execv(SERVER, [SERVER, *ARGUMENTS])
    server = subprocess.Popen([SERVER, *ARGUMENTS], stdout=subprocess.PIPE, text=True)
    scheme, address = server.stdout.readline().removeprefix("listening on ").strip().split("://")
    drawn = tempfile.TemporaryFile("w+")
    # One with TLS is passed through: only the client has the certificate that it asks for.
    command = [CLIENT, "watch", "--listen", "127.0.0.1:0", "--to", f"http://{address}", "--frames", "--output", "json"]
    watch = subprocess.Popen(command, stdout=drawn, stderr=subprocess.PIPE, text=True)
    # It warns of a server that expects TLS.
    line = next(line for line in watch.stderr if line.startswith("watching "))
    url = line.removeprefix("watching ").split(",")[0]
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    print("listening on", url.replace("http", scheme), flush=True)
    code = server.wait()
    watch.send_signal(signal.SIGINT)
    code = code or watch.wait()
    drawn.seek(0)
    *events, result = map(json.loads, drawn)
    lost = [event["text"] for event in events if event["type"] == "note" and "not decoded any more" in event["text"]]
    lost = [text for text in lost if scheme == "http" or "speaks TLS" not in text]
    if lost or not result["ok"]:
        print("watched:", lost, result, file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
