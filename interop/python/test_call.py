"""`fourmodes call` and `measure --call` at servers with grpcio and with grpc-go.

By reflection, by sources and by descriptors.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CLIENT = os.environ["FOURMODES_CLIENT_BIN"]
DESCRIPTORS = os.environ["FOURMODES_CALL_DESCRIPTORS"]
PROTOS = Path(__file__).parent.parent / "call"
SERVERS = {
    "grpcio": [sys.executable, Path(__file__).parent / "call_server.py"],
    "grpc-go": [os.environ["FOURMODES_CALL_GO_SERVER"]],
}


class Call:
    def serve(self, *arguments):
        server = subprocess.Popen([*SERVERS[self.stack], *arguments], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        return server.stdout.readline().strip()

    def call(self, *arguments, code=0):
        ended = subprocess.run([CLIENT, "call", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, code, ended.stderr)
        return ended.stdout if code == 0 else ended.stderr

    def responses(self, *arguments):
        return [json.loads(line) for line in self.call(*arguments, "-q").splitlines()]

    def test_reflection_tells_what_there_is(self):
        address = self.serve()
        listed = self.call(address).splitlines()
        self.assertIn("odd.import.Odd", listed)
        self.assertIn("Bare", listed)
        text = self.call(address, "odd.import.Odd")
        self.assertIn("rpc async(stream odd.import.class) returns (stream odd.import.class); // bidi-streaming", text)
        self.assertIn("group odd.import.class.Part part = 2;", text)

    def test_odd_names_groups_and_extensions_in_all_four_modes(self):
        address, bare = self.serve(), self.serve("without reflection")
        one = {"n": 1, "part": {"text": "x"}, "map": {"-1": "a", "10": "b"}, "fn": False, "inner": {"self": {"n": 2}}}
        one["[odd.import.note]"] = "y"
        two = {"n": 2}
        by = [
            [address],
            [bare, "--proto", PROTOS / "odd.proto", "-I", PROTOS],
            [bare, "--descriptors", DESCRIPTORS],
        ]
        for server in by:
            call = lambda method, *data: self.responses(
                server[0], f"odd.import.Odd/{method}", *server[1:], "-d", " ".join(map(json.dumps, data))
            )
            self.assertEqual(call("return", one), [one])
            self.assertEqual(call("yield", one), [one, one])
            self.assertEqual(call("await", two, one), [one])
            self.assertEqual(call("async", one, two, one), [one, two, one])
        error = self.call(address, "odd.import.Odd/return", "-d", "{}", code=3)
        self.assertIn("the required field n is missing", error)
        self.assertIn("has no reflection", self.call(bare, "Bare/Unary", code=3))

    def test_a_service_in_an_edition_and_in_no_package(self):
        address, bare = self.serve(), self.serve("without reflection")
        thing = {"n": 0, "expanded": [1, 2], "delimited": {"n": 3, "plain": 4, "delimited": {}}}
        for server in [[address], [bare, "--descriptors", DESCRIPTORS]]:
            answer = self.responses(*server[:1], "Bare/Unary", *server[1:], "-d", json.dumps({**thing, "plain": 0}))
            self.assertEqual(answer, [thing])
        error = self.call(bare, "Bare/Unary", "--proto", PROTOS / "bare.proto", code=3)
        self.assertIn("bare.proto:1: sources in editions cannot be compiled here", error)

    def test_a_recording_is_replayed_without_a_difference(self):
        address = self.serve()
        recording = Path(self.enterContext(tempfile.TemporaryDirectory())) / "calls.jsonl"
        command = [CLIENT, "watch", "--listen", "127.0.0.1:0", "--to", f"http://{address}", "--record", recording]
        watch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(watch.stderr.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        through = watch.stderr.readline().removeprefix("watching ").split(",")[0]
        methods = ["return", "yield", "await", "async"]
        for method in methods:
            data = '{"n": 1}' if method in ["return", "yield"] else '{"n": 1} {"n": 2}'
            by = ["--proto", PROTOS / "odd.proto", "-I", PROTOS]
            self.responses(through, f"odd.import.Odd/{method}", *by, "-d", data)
        watch.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(timeout=60), 0)

        def replay(code):
            command = [CLIENT, "replay", recording, "--server", f"http://{address}", "--output", "json"]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, code, ended)
            value = json.loads(ended.stdout.splitlines()[-1])["value"]
            return value["calls"], value["differ"], value["left_out"]

        self.assertEqual(replay(0), (len(methods), 0, 0))
        events = [json.loads(line) for line in recording.read_text().splitlines()]
        answer = next(event for event in events if event.get("type") == "message" and event["from"] == "server")
        answer["bytes"] = base64.b64encode(b"\x08\x05").decode()
        answer["length"] = 2
        recording.write_text("".join(json.dumps(event) + "\n" for event in events))
        self.assertEqual(replay(1), (len(methods), 1, 0))

    def test_methods_of_all_four_modes_are_measured(self):
        address = self.serve()
        ways = {"return": 2, "yield": 1, "await": 1, "async": 2}
        for method, count in ways.items():
            command = ["measure", address, "--call", f"odd.import.Odd/{method}", "-d", '{"n": 1}']
            command += ["--messages", "50", "--warmup", "0s", "--output", "json"]
            ended = subprocess.run([CLIENT, *command], capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            lines = [json.loads(line) for line in ended.stdout.splitlines()]
            self.assertEqual([line["messages"] for line in lines[:-1]], [50] * count, ended.stdout)

    def test_what_any_server_tells_is_checked(self):
        command = [CLIENT, "check", f"http://{self.serve()}", "--output", "json"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        lines = map(json.loads, ended.stdout.splitlines())
        found = {f"{line['group']}/{line['name']}": line for line in lines if line["type"] == "check"}
        for name in ["connect/http2", "connect/round-trip", "metadata/8-kib", "life/1200-calls"]:
            self.assertEqual(found[name]["outcome"], "pass", found[name])
        self.assertEqual(found["extras/reflection-v1alpha"]["outcome"], "pass")
        self.assertEqual(found["modes/unary"]["outcome"], "skip")
        self.assertIn("this needs", found["modes/unary"]["cause"])
        self.assertEqual(ended.returncode, 0, ended.stdout)


class AtGrpcio(Call, unittest.TestCase):
    stack = "grpcio"


class AtGrpcGo(Call, unittest.TestCase):
    stack = "grpc-go"


if __name__ == "__main__":
    unittest.main()
