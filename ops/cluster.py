"""Three servers share a PostgreSQL database. One server is killed, then the database's primary.

    python3 ops/cluster.py SERVER CLIENT

Starts a primary and two standbys from the PostgreSQL of this machine, three servers, and clients
in all modes. Shows at which server each client is, and at the end what each of them has got. At
the end, and at Ctrl-C, everything is stopped and removed. Needs Python 3.9 and PostgreSQL 15.
"""

import contextlib
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

SETTINGS = {"synchronous_standby_names": "ANY 1 (*)", "wal_retrieve_retry_interval": "500ms"}
PATIENCE = 60  # seconds, for each step
STEADY = 4  # seconds between two faults


class Failed(Exception):
    pass


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


def program(name):
    # Debian has them where no PATH leads.
    path = os.pathsep.join([os.environ["PATH"], *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)])
    found = shutil.which(name, path=path)
    if not found:
        raise Failed(f"{name} of PostgreSQL 15 or later is missing; install it: apt-get install postgresql")
    return found


class Postgres:
    """A primary, or a standby of another one."""

    def __init__(self, name, directory, stack, primary=None):
        self.name, self.directory = name, directory / name
        # PostgreSQL refuses to run as root.
        self.as_user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.geteuid() == 0 else {}
        self.directory.mkdir()
        if self.as_user:
            shutil.chown(self.directory, "nobody")
        data = ["--pgdata", self.directory / "data"]
        if primary:
            host = ["--host", primary.directory, "--username", "cluster"]
            self.run("pg_basebackup", *data, *host, "--checkpoint=fast", "--write-recovery-conf")
        else:
            self.run("initdb", *data, "--auth=trust", "--username=cluster", "--encoding=UTF8", "--no-locale")
        settings = SETTINGS | {"unix_socket_directories": self.directory, "listen_addresses": ""}
        arguments = [it for name, value in settings.items() for it in ("-c", f"{name}={value}")]
        log = stack.enter_context(open(directory / f"{name}.log", "w"))
        self.process = subprocess.Popen(
            [program("postgres"), "-D", self.directory / "data", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **self.as_user,
        )  # fmt: skip
        # Fast: it does not wait for its clients.
        stack.callback(end, self.process, signal.SIGINT)
        until(self.answers, f"{name} does not answer")

    def run(self, name, *arguments):
        command = [program(name), *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd="/", **self.as_user)
        if ended.returncode:
            raise Failed(f"{name}: {ended.stderr}")
        return ended.stdout.strip()

    def query(self, *statements):
        commands = [it for statement in statements for it in ("--command", statement)]
        at = ["--host", self.directory, "--username", "cluster", "--dbname", "postgres"]
        return self.run("psql", *at, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", *commands)

    def answers(self):
        with contextlib.suppress(Failed):
            return bool(self.query("SELECT 1"))

    def received(self):
        return int(self.query("SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint"))

    def promote(self):
        self.query("SELECT pg_promote(false)")

    def follow(self, primary):
        conninfo = f"host={primary.directory} user=cluster"
        self.query(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'", "SELECT pg_reload_conf()")


def end(process, how=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server:
    def __init__(self, number, binary, store, directory, stack):
        self.name, self.binary, self.stack = f"server {number}", binary, stack
        self.directory = directory / f"server-{number}"
        self.log = stack.enter_context(open(directory / f"server-{number}.log", "w"))
        self.environment = os.environ | {"FOURMODES_STORE": store, "FOURMODES_DATA_DIR": str(self.directory)}
        self.start("127.0.0.1:0")

    def start(self, listen):
        self.process = subprocess.Popen(
            [self.binary, "all", "--listen", listen], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True,
        )  # fmt: skip
        self.stack.callback(end, self.process)
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} does not start: {Path(self.log.name).read_text()}")
        self.address = line.split("://")[1].strip()


class Client:
    """One that stays: it goes on at another server."""

    def __init__(self, name, world, *arguments, types=None):
        self.name, self.world, self.types = name, world, types
        self.server, self.done, self.result = None, 0, None
        command = [world.client, "--output", "json", *arguments]
        self.process = subprocess.Popen(
            command, env=world.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=world.log, text=True,
            start_new_session=True,
        )  # fmt: skip
        world.stack.callback(end, self.process, signal.SIGINT)
        threading.Thread(target=self.read, daemon=True).start()
        if types:
            threading.Thread(target=self.type, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            line = json.loads(line)
            value = line.get("value") or {}
            if line["type"] == "connected":
                self.server = self.world.name_of(line["server"])
            elif line["type"] == "result":
                self.result = line
            elif "accepted" in value or "quote" in value:
                self.done += 1

    def type(self):
        # Ends with the client.
        with contextlib.suppress(OSError):
            while self.types:
                self.process.stdin.write(f"{self.types} {self.done}\n")
                self.process.stdin.flush()
                time.sleep(0.1)
            self.process.stdin.close()

    def stop(self):
        # A chat ends with its input. What has none is interrupted.
        if self.types:
            self.types = None
        else:
            self.process.send_signal(signal.SIGINT)
        until(lambda: self.process.poll() is not None and self.result, f"{self.name} does not end")
        value = self.result["value"] or {}
        told = {name: value[name] for name in ("posted", "unaccepted", "gaps", "duplicates") if name in value}
        wrong = "gaps" not in told or any(number for name, number in told.items() if name != "posted")
        return wrong, ", ".join(f"{number} {name}" for name, number in told.items()) or self.result


class Calls:
    """One call after the other, each of a new client."""

    def __init__(self, name, world, *arguments):
        self.name, self.world, self.server, self.done, self.failed = name, world, None, 0, 0
        self.command = [world.client, "--output", "json", *arguments]
        self.stops = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stops:
            ended = subprocess.run(
                self.command, env=self.world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                start_new_session=True,
            )  # fmt: skip
            lines = [json.loads(line) for line in ended.stdout.splitlines()]
            servers = [line["server"] for line in lines if line["type"] == "connected"]
            if ended.returncode == 0 and servers:
                self.server, self.done = self.world.name_of(servers[-1]), self.done + 1
            elif not self.stops:
                self.failed += 1
            time.sleep(0.1)

    def stop(self):
        self.stops = True
        self.thread.join(PATIENCE)
        return bool(self.failed), f"{self.done} calls, {self.failed} failed"


class World:
    """All that runs, and the table of where each client is."""

    def __init__(self, server, client, directory, stack):
        self.client, self.stack, self.begun = client, stack, time.monotonic()
        print("PostgreSQL: a primary and two standbys …", flush=True)
        primary = Postgres("db1", directory, stack)
        self.databases = [primary] + [Postgres(name, directory, stack, primary) for name in ("db2", "db3")]
        hosts = ",".join(quote(str(database.directory), safe="") for database in self.databases)
        store = f"postgres://cluster@{hosts}/postgres"
        print("three servers, and clients in all modes …\n", flush=True)
        self.servers = [Server(number, server, store, directory, stack) for number in (1, 2, 3)]
        self.environment = os.environ | {"FOURMODES_SERVER": ",".join(f"http://{it.address}" for it in self.servers)}
        self.log = stack.enter_context(open(directory / "clients.log", "w"))
        readings = directory / "readings.csv"
        readings.write_text("device,time,value\n" + "".join(f"attic,{1_700_000_000 + n},{n}\n" for n in range(200)))
        chat = ["bidi-streaming", "chat", "--room", "cluster", "--after-sequence", "0", "--name"]
        self.clients = [
            Client("chat ana", self, *chat, "ana", types="hello"),
            Client("chat ben", self, *chat, "ben", types="hi"),
            Client("quotes", self, "server-streaming", "quotes", "--count", "0", "--interval", "100ms"),
            Calls("readings", self, "client-streaming", "readings", str(readings)),
            Calls("unary", self, "unary", "multiply", "6", "7"),
        ]

    def name_of(self, url):
        address = url.split("://")[1].strip("/")
        return next(server.name for server in self.servers if server.address == address)

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.1f} s │ {text}", flush=True)

    def show(self):
        """Where each client is: a column of its own for each server."""
        for server in self.servers:
            if server.process.poll() is not None:
                self.say(f"{server.name}  ✗")
                continue
            here = [client.name for client in self.clients if client.server == server.name]
            self.say(f"{server.name}  ● {', '.join(here)}")

    def after(self, fault):
        """Tells of each client as soon as it goes on."""
        self.say(f"\033[1m{fault}\033[0m" if sys.stdout.isatty() else fault)
        begun = time.monotonic()
        waits = {client: (client.done, client.server) for client in self.clients}
        while waits:
            until(lambda: any(client.done > done for client, (done, _) in waits.items()), "nobody goes on")
            for client in [client for client, (done, _) in waits.items() if client.done > done]:
                was = waits.pop(client)[1]
                where = f"at {client.server}" if client.server == was else f"{was} → {client.server}"
                self.say(f"  {client.name:9} goes on after {time.monotonic() - begun:.1f} s   {where}")

    def kill_a_server(self):
        name = self.clients[0].server
        server = next(server for server in self.servers if server.name == name)
        server.process.kill()
        server.process.wait()
        self.after(f"{name}, which has ana, is killed (kill -9)")
        self.show()
        server.start(server.address)
        self.say(f"{name} is started again")

    def kill_the_primary(self):
        primary, *standbys = self.databases
        primary.run("pg_ctl", "stop", "--mode=immediate", "--pgdata", primary.directory / "data")
        self.say(f"{primary.name}, the primary of the database, crashes")
        standbys.sort(key=Postgres.received, reverse=True)
        standbys[0].promote()
        standbys[1].follow(standbys[0])
        self.after(f"{standbys[0].name}, which has most of its log, is promoted; {standbys[1].name} follows it")
        self.show()


def main(server, client):
    # Ends as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            program("postgres")
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fourmodes-cluster-")))
            directory.chmod(0o711)
            world = World(server, client, directory, stack)
            until(lambda: all(client.done > 2 for client in world.clients), "a client does not begin")
            world.show()
            time.sleep(STEADY)
            world.kill_a_server()
            time.sleep(STEADY)
            world.kill_the_primary()
            time.sleep(STEADY)
            ends = [(client.name, *client.stop()) for client in world.clients]
            print()
            for name, wrong, told in ends:
                print(f"{'FAILED' if wrong else 'ok':7}{name:9} {told}")
            return 1 if any(wrong for _, wrong, _ in ends) else 0
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
