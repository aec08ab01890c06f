"""Kills the server behind real proxies while clients work: nginx, HAProxy, Apache, Go.

    python3 interop/proxies/restarts.py [--kills N] [PROXY...]

Behind each proxy quotes are watched, two people talk and a file is uploaded, on a fast
path and on one of 1 Mbit/s. When all of them have got further, the server is killed with
`kill -9`; when all of them have lost it, it is started again. Each has to go on where it
was. Needs Python 3.11, Go 1.24, the other proxies (on Debian: nginx haproxy apache2), and
both binaries (`just build`).
"""

import argparse
import concurrent.futures
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from products import CLIENT, SERVER, Failed, Processes, build_go, free_port, is_there

CONFIGS = {"nginx": "good.conf", "haproxy": "good.cfg", "apache": "good.conf", "go": "main.go"}
# Bytes a second, and of a file that is not over before the last kill.
PATHS = {"fast": (1_000_000, 24 << 20), "slow": (125_000, 4 << 20)}
# Seconds for a step that all clients have to take.
PATIENCE = 40


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("proxies", nargs="*", metavar="PROXY")
    options = parser.parse_args(arguments)
    proxies = options.proxies or [*CONFIGS]
    missing = [proxy for proxy in proxies if not is_there(proxy)]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    if "go" in proxies:
        build_go()
    failed = 0
    # Two at a time: each spends most of its time waiting.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for proxy, wrong in zip(proxies, pool.map(lambda proxy: run(proxy, options.kills), proxies)):
            failed += bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':7}{proxy}", *wrong, sep="\n       ", flush=True)
    return 1 if failed else 0


def run(proxy, kills):
    """What is wrong after so many kills."""
    with tempfile.TemporaryDirectory() as directory, Processes(directory) as processes:
        try:
            return behind(proxy, kills, Path(directory), processes)
        except (Failed, OSError, subprocess.SubprocessError) as error:
            return [str(error)]


def behind(proxy, kills, directory, processes):
    server = Server(processes, directory)
    port = free_port()
    processes.proxy(proxy, CONFIGS[proxy], {"dir": directory, "port": port, "server": server.port})
    paths = {name: Shaped(port, rate) for name, (rate, _) in PATHS.items()}
    clients = [client for name in PATHS for client in clients_on(name, paths[name], directory, processes)]
    for _ in range(kills):
        until_all(clients, lambda client: client.progress(), 1, "does not go on")
        server.kill()
        until_all(clients, lambda client: client.losses, 1, "has not lost the server")
        server.start()
    until_all(clients, lambda client: client.progress(), 1, "does not come back")
    for path in paths.values():
        path.rate = None
    return [f"{client.name}: {wrong}" for client in clients for wrong in client.end()]


def until_all(clients, count, more, what):
    """Waits until each of them has so many more."""
    goals = [(client, count(client) + more) for client in clients]
    end = time.monotonic() + PATIENCE
    while late := [client for client, goal in goals if count(client) < goal]:
        if over := next((client for client in late if client.process.poll() is not None), None):
            raise Failed(f"{over.name} has ended: {over.said()}")
        if time.monotonic() > end:
            raise Failed("; ".join(f"{client.name} {what}: {client.said()}" for client in late))
        time.sleep(0.02)


class Server:
    """Keeps its port and its state."""

    def __init__(self, processes, directory):
        self.processes, self.directory, self.port = processes, directory, free_port()
        self.start()

    def start(self):
        command = [SERVER, "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.directory / "state", "all"]
        self.process = self.processes.start(command, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            raise Failed(f"the server did not start at {self.port}")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Shaped:
    """Passes so many bytes a second in each direction, or all at once."""

    def __init__(self, port, rate):
        self.to, self.rate, self.two_seconds, self.sent = port, rate, 2 * rate, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        # What it accepts has the same: nothing is taken long before it is passed on.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            proxy = socket.create_connection(("127.0.0.1", self.to))
            proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in (client, proxy, True), (proxy, client, False):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, sink, is_up):
        try:
            while data := source.recv(2 << 10):
                if self.rate:
                    time.sleep(len(data) / self.rate)
                sink.sendall(data)
                self.sent += len(data) if is_up else 0
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # Either side may go at any time.
            source.close()
            sink.close()


def clients_on(name, path, directory, processes):
    file = directory / f"{name}.bin"
    file.write_bytes(bytes(range(256)) * (PATHS[name][1] // 256))
    chat = ["bidi-streaming", "chat", "--room", name, "--after-sequence", "0", "--name"]
    return [
        Quotes(name, path, processes, ["server-streaming", "quotes", "--count", "0", "--interval", "20ms"]),
        Talk(name, path, processes, [*chat, "ana"]),
        Talk(name, path, processes, [*chat, "ben"]),
        Upload(name, path, processes, ["client-streaming", "upload", "--chunk", "16KiB", file]),
    ]


class Client:
    def __init__(self, name, path, processes, arguments):
        self.name = f"{arguments[1]} on the {name} path"
        self.path, self.messages, self.losses, self.last = path, 0, 0, ""
        command = [CLIENT, "--server", f"http://127.0.0.1:{path.port}", "--output", "json", *arguments]
        self.process = processes.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.last = line
            # Not all of them are read as JSON: they have the bytes of the file in them.
            self.messages += '"type":"message"' in line[:200]
            self.losses += '"type":"reconnect"' in line[:200]

    def progress(self):
        return self.messages / 3

    def said(self):
        self.process.log.seek(0)
        return f"{self.process.log.read().strip()[-500:]} {self.last.strip()[:500]}"

    def result(self):
        """The result, when the client has ended well."""
        self.reader.join(PATIENCE)
        return json.loads(self.last)["value"]

    def differs(self, expected):
        result = self.result()
        return [f"{key} is {result[key]} and not {value}" for key, value in expected.items() if result[key] != value]


class Quotes(Client):
    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.differs({"gaps": 0, "duplicates": 0})


class Talk(Client):
    """Somebody who says something all the time."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.said_all, self.count = threading.Event(), 0
        self.typist = threading.Thread(target=self.type, daemon=True)
        self.typist.start()

    def type(self):
        while not self.said_all.wait(0.05) and self.process.poll() is None:
            self.process.stdin.write(f"line {self.count}\n")
            self.process.stdin.flush()
            self.count += 1

    def end(self):
        self.said_all.set()
        self.typist.join(PATIENCE)
        self.process.stdin.close()
        return self.differs({"gaps": 0, "duplicates": 0, "posted": self.count, "unaccepted": 0})


class Upload(Client):
    def progress(self):
        # The server makes durable what it has once a second.
        return self.path.sent / self.path.two_seconds

    def end(self):
        self.reader.join(PATIENCE)
        resumed = json.loads(self.last).get("ok") and self.result()["resumed_from"]
        return [] if resumed else [f"not resumed: {self.said()}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
