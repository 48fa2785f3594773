"""DNS over HTTP/2 (RFC 9113): one connection of one client.

h2 knows frames and states; what a client may cost is decided here. Streams, header octets, body octets of a whole
connection and answers not yet taken are bounded; each stream has to be done in time; and frames that bring no query
(resets, pings, settings, empty data: CVE-2019-9511 and following, CVE-2023-44487, CVE-2024-27316) may only be so many
more than the queries that were answered.
"""

import asyncio
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from gateway.dns.doh import (
    MAX_BODY,
    MAX_HEAD,
    Fields,
    HttpError,
    check_body,
    fields_of,
    is_no_query,
    message_of,
    read_head,
)
from gateway.dns.outbound import padded
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.streams import close_stream
from gateway.dns.tally import Transport
from gateway.http2frames import PREFACE, FrameHeads

MAX_STREAMS = 64
MAX_NOISE = 200
"""Frames without use that a connection may send on credit."""
NOISE_PER_ANSWER = 3
"""And those that each answered query earns it: an honest client sends a WINDOW_UPDATE or two."""
MIN_PIECE = 64
"""Octets of a body below which a piece of it, unless it is the last, is a frame without use."""
MAX_WAITING = 256 * 1024
"""Octets of answers that the client has given no room for."""
_READ = 4096
"""Octets looked at in one turn: frames of ten octets cost 5 ms."""
_MAX_FRAME = 16384  # the default of SETTINGS_MAX_FRAME_SIZE, which we leave


@dataclass(slots=True)
class _Stream:
    began: float
    message: bytes | None
    """Of a GET; None while it is to come in the body."""
    body: bytearray = field(default_factory=bytearray)
    held: int = 0
    """Octets of the connection's window that this stream has used."""
    ended: bool = False
    refused: bool = False
    """It has its response; what still comes of it is thrown away."""
    task: asyncio.Task[None] | None = None
    rest: memoryview | None = None
    """What is still to be sent."""


def is_bearable(heads: FrameHeads, data: bytes) -> bool:
    """Say whether the frames that begin in the next octets are short enough for h2 to keep."""
    return all(head.length <= _MAX_FRAME and head.block <= MAX_HEAD for head in heads.read(data))


class Http2Connection:
    """Serves one client over HTTP/2."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        resolver: Resolver,
        path: str,
        idle: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._resolver = resolver
        self._path = path.encode()
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, _Stream] = {}
        self._waiting = 0
        self._noise = 0
        self._active = self._loop.time()
        self._leaving = False
        self._timer: asyncio.Timeout | None = None
        self._heads = FrameHeads(PREFACE)
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        # Given here rather than by `update_settings`, so that they hold before the client has acknowledged them.
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
                # One octet more than is allowed, so that a body too long can be told from one that is exactly full.
                SettingCodes.INITIAL_WINDOW_SIZE: MAX_BODY + 1,
            },
        )
        self._h2.decoder.max_header_list_size = MAX_HEAD

    async def run(self) -> None:
        """Answer queries until the client or we stop, or it takes too long or too much; then close."""
        try:
            self._h2.initiate_connection()
            # All bodies of a connection share this; what a stream has used is given back at its end.
            self._h2.increment_flow_control_window(MAX_BODY + 1)
            self._flush()
            await self._talk()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        finally:
            tasks = [stream.task for stream in self._streams.values() if stream.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await close_stream(self._writer, self._idle)
            vars(self._h2).clear()  # it refers to itself by its methods, and would wait for the garbage collector

    def stop(self) -> None:
        """Take no more requests; `run` ends when those that came before are answered."""
        if not self._leaving:
            self._leaving = True
            # h2 would send nothing after a GOAWAY of its own, not even the answers on their way.
            frame = GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=ErrorCodes.NO_ERROR)
            self._flush()
            self._writer.write(frame.serialize())
        self._look_again()

    def _look_again(self) -> None:
        if self._timer is not None:
            self._timer.reschedule(self._loop.time())

    def _is_quiet(self) -> bool:
        return all(stream.refused for stream in self._streams.values())

    def _due(self) -> float:
        """Return when patience ends: without anything finished, or with a stream that never gets done."""
        oldest = next(iter(self._streams.values()), None)
        last = self._active + self._idle
        return last if oldest is None else min(last, oldest.began + 2 * self._idle)

    async def _talk(self) -> None:
        while not (self._leaving and self._is_quiet()):
            try:
                async with asyncio.timeout_at(self._due()) as self._timer:
                    data = await self._reader.read(_READ)
            except TimeoutError:
                if self._loop.time() < self._due():
                    continue  # woken, to look again
                self._give_up(ErrorCodes.NO_ERROR)
                return
            except OSError:
                return
            finally:
                self._timer = None
            if not data or not self._received(data):
                return
            await asyncio.sleep(0)  # neither reading nor writing gives way while there are data and room
            try:
                # Waits only while the client does not read and the buffer is full.
                async with asyncio.timeout(self._idle):
                    await self._writer.drain()
            except (TimeoutError, OSError):
                self._writer.transport.abort()
                return

    def _received(self, data: bytes) -> bool:
        """Handle octets; return whether the connection goes on."""
        if not is_bearable(self._heads, data):
            self._give_up(ErrorCodes.FRAME_SIZE_ERROR)
            return False
        try:
            events = self._h2.receive_data(data)
            # What was taken back in the same breath is never worked on.
            gone = {event.stream_id for event in events if isinstance(event, StreamReset)}
            for event in events:
                self._handle(event, gone)
        except ProtocolError:
            self._flush()  # with the GOAWAY that h2 has prepared
            return False
        if self._noise > MAX_NOISE:
            self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
            return False
        self._flush()
        return True

    def _give_up(self, code: ErrorCodes) -> None:
        self._h2.close_connection(code)
        self._flush()

    def _handle(self, event: Event, gone: set[int]) -> None:
        if isinstance(event, RequestReceived):
            assert event.stream_id is not None
            assert event.headers is not None
            if event.stream_id in gone:
                return
            if self._leaving:
                self._reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
                return
            self._begin(event.stream_id, [(bytes(name), bytes(value)) for name, value in event.headers])
        elif isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, StreamEnded):
            assert event.stream_id is not None
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.ended = True
                if stream.refused:
                    self._finish(event.stream_id)
                else:
                    self._ask(event.stream_id, stream)
        elif isinstance(event, StreamReset):
            assert event.stream_id is not None
            self._noise += 1
            self._finish(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self._leaving = True
        else:
            self._noise += 1
            if isinstance(event, WindowUpdated) and event.stream_id:
                self._pump(event.stream_id)
            else:
                for ident in list(self._streams):
                    self._pump(ident)

    def _begin(self, ident: int, fields: Fields) -> None:
        named = dict(fields)
        stream = self._streams[ident] = _Stream(self._loop.time(), None)
        try:
            head = read_head(named.get(b":method", b""), named.get(b":path", b""), fields)
            stream.message = message_of(head, self._path)
        except HttpError as error:
            self._refuse(ident, stream, error)

    def _data(self, event: DataReceived) -> None:
        assert event.stream_id is not None
        assert event.data is not None
        used = event.flow_controlled_length or 0
        if len(event.data) < MIN_PIECE and event.stream_ended is None:
            self._noise += 1
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.refused:
            self._give_back(used)
            return
        stream.held += used
        if stream.message is None:
            stream.body += event.data
        if stream.held > MAX_BODY:
            self._refuse(event.stream_id, stream, HttpError(413, "a body longer than any DNS message"))

    def _ask(self, ident: int, stream: _Stream) -> None:
        """Answer a request that is complete."""
        self._active = self._loop.time()
        if self._waiting > MAX_WAITING:
            self._reset(ident, ErrorCodes.REFUSED_STREAM)
            return
        try:
            data = check_body(bytes(stream.body)) if stream.message is None else stream.message
        except HttpError as error:
            self._refuse(ident, stream, error)
            return
        self._resolver.tally.queries[Transport.HTTPS] += 1
        reply = self._resolver.answer_now(self._peer, data, stream=True)
        if isinstance(reply, Miss):
            stream.task = self._loop.create_task(self._later(ident, stream, reply))
        else:
            self._answer(ident, stream, data, reply)

    async def _later(self, ident: int, stream: _Stream, miss: Miss) -> None:
        reply = await self._resolver.answer_later(miss)
        stream.task = None
        if self._streams.get(ident) is stream:
            self._answer(ident, stream, b"", reply, dropped=True)
            self._flush()

    def _answer(
        self, ident: int, stream: _Stream, data: bytes, reply: bytes | None, *, dropped: bool = False
    ) -> None:
        if reply is not None:
            reply = padded(reply)
            self._noise = max(self._noise - NOISE_PER_ANSWER, 0)
            self._respond(ident, stream, 200, fields_of(reply), reply)
        elif not dropped and is_no_query(data):
            self._refuse(ident, stream, HttpError(400, "not a DNS query"))
        else:
            self._reset(ident, ErrorCodes.CANCEL)  # the policy says to be silent: as silent as HTTP can be

    def _refuse(self, ident: int, stream: _Stream, error: HttpError) -> None:
        self._noise += 1
        self._respond(ident, stream, error.status, error.fields(), b"")

    def _respond(self, ident: int, stream: _Stream, status: int, fields: Fields, body: bytes) -> None:
        try:
            self._h2.send_headers(ident, [(b":status", str(status).encode()), *fields], end_stream=not body)
        except ProtocolError:
            self._finish(ident)  # the client has just taken it back
            return
        if body:
            stream.rest = memoryview(body)
            self._waiting += len(body)
            self._pump(ident)
        else:
            # Not reset where the request is still coming: curl would then lose the response.
            stream.refused = not stream.ended
            if stream.ended:
                self._finish(ident)
            else:
                self._give_back(stream.held)
                stream.held = 0

    def _pump(self, ident: int) -> None:
        """Send as much of an answer as the client has room for."""
        stream = self._streams.get(ident)
        if stream is None or stream.rest is None:
            return
        try:
            while stream.rest:
                room = min(self._h2.local_flow_control_window(ident), self._h2.max_outbound_frame_size)
                if room <= 0:
                    return
                piece, stream.rest = stream.rest[:room], stream.rest[room:]
                self._waiting -= len(piece)
                self._h2.send_data(ident, bytes(piece), end_stream=not stream.rest)
        except ProtocolError:
            pass  # the client has just taken it back
        self._finish(ident)

    def _reset(self, ident: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(ident, code)
        except ProtocolError:
            pass  # closed already
        self._finish(ident)

    def _finish(self, ident: int) -> None:
        stream = self._streams.pop(ident, None)
        if stream is None:
            return
        self._active = self._loop.time()
        if stream.task is not None:
            stream.task.cancel()
        if stream.rest:
            self._waiting -= len(stream.rest)
        self._give_back(stream.held)
        if self._leaving and self._is_quiet():
            self._look_again()

    def _give_back(self, used: int) -> None:
        if used:
            self._h2.increment_flow_control_window(used)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._writer.is_closing():
            self._writer.write(data)
