"""A connection by HTTP/2 on which each frame can be told, by Python's h2."""

import socket
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

WINDOW = 16 << 20


class Answer:
    def __init__(self):
        self.head, self.data, self.trailers, self.reset, self.is_over = [], b"", [], None, False

    @property
    def status(self):
        """That of gRPC, where it counts: in what ended the stream."""
        return dict(self.trailers).get("grpc-status") if self.is_over else None

    def __str__(self):
        http = dict(self.head).get(":status")
        return f"HTTP {http}, status {self.status}, reset {self.reset}, over {self.is_over}"


class Connection:
    def __init__(self, dialled, authority, scheme):
        self.socket, self.authority, self.scheme = dialled, authority, scheme
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_inbound_headers=False)
        )
        self.answers, self.pongs, self.pings, self.empty = {}, 0, 0, 0
        self.greeted, self.goaway, self.closed = False, None, False
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self.h2.increment_flow_control_window(WINDOW)
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            # What it said before that is still to be read.
            pass

    def until(self, is_enough, patience):
        end = time.monotonic() + patience
        while not is_enough() and not self.closed:
            left = end - time.monotonic()
            if left <= 0:
                break
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(64 << 10)
            except socket.timeout:
                break
            except OSError:
                data = b""
            events = []
            try:
                events = self.h2.receive_data(data) if data else []
            except h2.exceptions.ProtocolError:
                data = b""
            self.closed = not data
            for event in events:
                self.see(event)
            self.flush()
        return is_enough()

    def see(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.greeted = True
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code)
        elif isinstance(event, h2.events.DataReceived):
            self.empty += not event.data and not event.stream_ended
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if answer:
                answer.data += event.data
        elif answer is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            answer.head = event.headers
            if event.stream_ended:
                answer.trailers = event.headers
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = event.headers
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, h2.events.StreamEnded):
            answer.is_over = True

    def greet(self, patience):
        return self.until(lambda: self.greeted, patience)

    def ping(self, patience):
        self.pings += 1
        try:
            self.h2.ping(struct.pack(">Q", self.pings))
        except h2.exceptions.ProtocolError:
            return False
        self.flush()
        return self.until(lambda: self.pongs >= self.pings, patience)

    def ask(self, path, *messages, headers=(), flag=0, verb="POST", content_type="application/grpc"):
        """Begins a call and ends its request. Returns its stream."""
        self.greet(5)
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        head = [(":method", verb), (":scheme", self.scheme), (":authority", self.authority), (":path", path)]
        self.h2.send_headers(stream, [*head, ("te", "trailers"), ("content-type", content_type), *headers])
        for message in messages:
            self.h2.send_data(stream, bytes([flag]) + struct.pack(">I", len(message)) + message)
        self.h2.end_stream(stream)
        self.flush()
        return stream

    def cancel(self, stream):
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def wait(self, stream, patience):
        answer = self.answers[stream]
        self.until(lambda: answer.is_over or answer.reset is not None, patience)
        return answer

    def call(self, path, message, patience, headers=(), flag=0):
        return self.wait(self.ask(path, message, headers=headers, flag=flag), patience)
