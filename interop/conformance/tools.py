"""The tools of other people, each at one version, and the programs of ours that they meet."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SERVER, CLIENT = TARGET / "debug/fourmodes-server", TARGET / "debug/fourmodes"
OUT = TARGET / "conformance"
ADAPTER = TARGET / "debug/conformance"
BIN, JARS, CERTS, NODE = OUT / "bin", OUT / "java", OUT / "certs", OUT / "node"
PYTHON, DESCRIPTORS = TARGET / "interop/venv/bin/python", OUT / "testing.bin"
# Seconds. Only what hangs comes to it.
PATIENCE = 120

# Of grpc-go there are two programs, `client` and `server`.
GO = {
    "connectconformance": "connectrpc.com/conformance/cmd/connectconformance@v1.0.5",
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
    "client": "google.golang.org/grpc/interop/client@v1.85.0",
    "server": "google.golang.org/grpc/interop/server@v1.85.0",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0",
    "grpc-health-probe": "github.com/grpc-ecosystem/grpc-health-probe@v0.4.62",
    "buf": "github.com/bufbuild/buf/cmd/buf@v1.75.0",
}
JAVA = "io.grpc:grpc-interop-testing:1.79.0"


class Missing(Exception):
    """Something that has to be installed first."""


def go_tools(names):
    """Builds those that are not there in this version."""
    need("go", "Go 1.24 or later; Debian's own is too old for these tools")
    BIN.mkdir(parents=True, exist_ok=True)
    for name in names:
        stamp = BIN / f".{name}"
        if (BIN / name).exists() and stamp.exists() and stamp.read_text() == GO[name]:
            continue
        print(f"building {GO[name]}", flush=True)
        subprocess.run(["go", "install", GO[name]], check=True, env=os.environ | {"GOBIN": str(BIN)})
        stamp.write_text(GO[name])


def java_tools():
    """Fetches what java/pom.xml names, and unpacks the certificates that grpc's own tests have."""
    need("java", "a JDK, on Debian: apt-get install default-jdk-headless")
    need("mvn", "Maven, on Debian: apt-get install maven")
    stamp, pom = JARS / ".pom", HERE / "java/pom.xml"
    if not stamp.exists() or stamp.read_text() != pom.read_text():
        shutil.rmtree(JARS, ignore_errors=True)
        subprocess.run(
            ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"], check=True
        )
        stamp.write_text(pom.read_text())
    CERTS.mkdir(exist_ok=True)
    with zipfile.ZipFile(next(JARS.glob("grpc-testing-*.jar"))) as jar:
        for name in ("ca.pem", "server1.pem", "server1.key"):
            (CERTS / name).write_bytes(jar.read(f"certs/{name}"))


def node_tools():
    """What @grpc/grpc-js needs, as `just interop` has it."""
    need("npm", "Node, on Debian: apt-get install nodejs npm")
    shutil.copytree(ROOT / "proto", NODE / "protos", dirs_exist_ok=True)
    shutil.copy(HERE / "node.mjs", NODE)
    stamp, lock = NODE / ".lock", ROOT / "interop/node/package-lock.json"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / "interop/node" / name, NODE)
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True)
        stamp.write_text(lock.read_text())


def python_tools():
    """grpcio, as `just interop` has it, and the descriptors of the service."""
    subprocess.run(["bash", ROOT / "interop/venv.sh"], check=True, stdout=subprocess.DEVNULL)
    protos = [f"grpc/testing/{name}.proto" for name in ("empty", "messages", "test")]
    compiler = [PYTHON, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}", "--include_imports"]
    subprocess.run([*compiler, f"--descriptor_set_out={DESCRIPTORS}", *protos], check=True)


def need(program, what):
    if not shutil.which(program):
        raise Missing(f"{program} is missing: {what}")


def java(program, *arguments):
    return ["java", "-cp", f"{JARS}/*", f"io.grpc.testing.integration.{program}", *arguments]


def run(command, patience=PATIENCE, **options):
    """What a command prints, and its exit status; after `patience` it is ended, which counts as 124."""
    try:
        done = subprocess.run(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=patience, **options,
        )
        return done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        return f"{(error.stdout or b'').decode(errors='replace')}\nnot done after {patience} s", 124


@contextlib.contextmanager
def ours(*options):
    """Our server, on a port of its own: its address as `127.0.0.1:PORT`."""
    command = [SERVER, "--listen", "127.0.0.1:0", "--data-dir", ":memory:", *options, "all"]
    log = open(OUT / "server.log", "a")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        # The first line is `listening on http://ADDRESS`.
        yield server.stdout.readline().split("://")[-1].strip()
    finally:
        stop(server)


@contextlib.contextmanager
def theirs(*command, port, **environment):
    """A server of somebody else's, once it takes connections: its port."""
    log = open(OUT / "server.log", "a")
    command = [str(part) for part in command]
    server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > until:
                raise Missing(f"{command[0]} does not listen; see {OUT / 'server.log'}")
            time.sleep(0.05)
        yield port
    finally:
        stop(server)


def stop(server):
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
