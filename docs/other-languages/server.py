"""Stages 1 to 13 in Python, with nothing but its standard library's sockets.

SERVER="python3 docs/other-languages/server.py" cargo next
"""

import argparse, email.utils, http, io, os, re, signal, socket, stat, sys, tempfile, threading, time, zlib
from urllib.parse import unquote_to_bytes

options = argparse.ArgumentParser()
options.add_argument("--port", type=int, default=int(os.environ.get("PORT", "4221")))
options.add_argument("--directory", type=os.path.realpath)
options.add_argument("--max-connections", type=int, default=400)
options.add_argument("--max-body", type=int, default=1 << 30, metavar="BYTES")
options.add_argument("--head-timeout", type=float, default=10, metavar="SECONDS")
options.add_argument("--body-timeout", type=float, default=20, metavar="SECONDS")
options.add_argument("--idle-timeout", type=float, default=10, metavar="SECONDS")
args = options.parse_args()

MAX_HEAD = 16384  # bytes; also for what is not content in a body of chunks
MAX_LINES = 100
BLOCK = 65536
SEND_TIMEOUT, STOP_TIMEOUT, LINGER_TIMEOUT = 60, 10, 2  # seconds

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(%s) ([^\x00-\x20\"#<>\\\x7f]+) HTTP/([0-9])\.([0-9])" % TOKEN)
FIELD = re.compile(rb"(%s):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*" % TOKEN)
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
WEIGHT = re.compile(r"([^ \t;]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"]

slots = threading.Semaphore(args.max_connections)  # one for each client
turned_away = threading.Semaphore(64)  # and one for each that is told to come again
stopping = threading.Event()
idle = set()  # the clients that have no request under way


class Refused(Exception):
    """Raised, it is the last answer of its connection: nobody knows where the next request begins."""

    def __init__(self, status, why, *headers):
        self.status, self.why, self.headers = status, why, headers


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with socket.create_server(("127.0.0.1", args.port), backlog=4096) as listener:  # stage 1
            print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            while True:
                accept(listener)
    except KeyboardInterrupt:  # stage 12: no new clients, and time for those who are here
        stopping.set()
        for client in list(idle):
            client.shutdown(socket.SHUT_RD)
        end = time.monotonic() + STOP_TIMEOUT
        for _ in range(args.max_connections):
            slots.acquire(timeout=max(end - time.monotonic(), 0))


def accept(listener):
    try:
        client, _ = listener.accept()
    except OSError as error:  # there are no descriptors left, perhaps: some will come back
        print(error, file=sys.stderr)
        return time.sleep(0.1)
    if slots.acquire(blocking=False):
        start(serve, client, slots)
    elif turned_away.acquire(blocking=False):
        start(turn_away, client, turned_away)
    else:
        client.close()


def start(work, client, permits):  # stage 6: a thread for each client
    def run():
        try:
            with client:
                work(client)
        except OSError as error:  # it has left
            print(error, file=sys.stderr)
        finally:
            permits.release()

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # the system has no thread for it
        print(error, file=sys.stderr)
        client.close()
        permits.release()


def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = Stream(client)
    reader = io.BufferedReader(stream, BLOCK)
    is_last = False
    while not is_last:  # stage 10
        request, lines = None, [b""]
        try:
            if not wait_for_request(stream, reader):
                return
            stream.allow(args.head_timeout, 0)
            lines = read_head(reader)
            request = Request(lines, stream, reader)
            stream.allow(args.body_timeout)
            response = route(request)
            is_last = stopping.is_set() or request.wants_close or not request.is_read
        except Refused as refused:  # stage 11
            response, is_last = Response.refused(refused), True
        except Exception as error:  # a mistake of ours: this client gets an answer, the others go on
            print(repr(error), file=sys.stderr)
            response, is_last = Response.refused(Refused(500, "this server has made a mistake")), True
        if lines[0].startswith(b"HEAD "):
            response.body = b""  # but the head says how long it would be
        is_last = response.send(stream, request, is_last)
    linger(stream, reader)


def wait_for_request(stream, reader):
    stream.allow(args.idle_timeout)
    idle.add(stream.client)
    try:
        return not stopping.is_set() and reader.peek(1)  # b"" when the client has left
    except Refused:
        return False  # it has nothing to ask
    finally:
        idle.discard(stream.client)


def turn_away(client):
    stream = Stream(client)
    refused = Refused(503, "there are too many clients; try again soon", "Retry-After: 1")
    Response.refused(refused).send(stream, None, True)
    linger(stream, io.BufferedReader(stream, BLOCK))


def linger(stream, reader):  # what is unread would reset the connection, and the answer with it
    stream.client.shutdown(socket.SHUT_WR)
    stream.allow(LINGER_TIMEOUT, 0)
    try:
        while reader.read1(BLOCK):
            pass
    except Refused:
        pass


class Stream(io.RawIOBase):
    """What a client sends, within its time, and what it gets."""

    def __init__(self, client):
        self.client = client

    def allow(self, seconds, per_byte=0.001):  # stage 12: so long, and a little more for each byte
        self.most, self.per_byte = seconds, per_byte
        self.deadline = time.monotonic() + seconds

    def readable(self):
        return True

    def readinto(self, block):
        self.client.settimeout(max(self.deadline - time.monotonic(), 0.001))  # what is there is taken
        try:
            count = self.client.recv_into(block)
        except TimeoutError:
            raise Refused(408, "the request took too long to arrive") from None
        self.deadline = min(self.deadline + count * self.per_byte, time.monotonic() + self.most)
        return count

    def send(self, data):
        self.client.settimeout(SEND_TIMEOUT)
        self.client.sendall(data)


def read_head(reader):  # stage 2: lines up to the blank one
    lines, left = [], MAX_HEAD
    while True:
        line = reader.readline(left)
        left -= len(line)
        if left == 0:
            raise Refused(431 if lines else 414, "the head is too large")
        if not line.endswith(b"\r\n"):
            raise Refused(400, "a line of the head does not end with CR LF")
        if line != b"\r\n":
            lines.append(line[:-2])
        elif lines:
            return lines
        if len(lines) > MAX_LINES:
            raise Refused(431, "there are too many headers")


class Request:
    def __init__(self, lines, stream, reader):
        self.stream, self.reader = stream, reader
        line = REQUEST_LINE.fullmatch(lines[0])  # stage 3
        fields = [FIELD.fullmatch(line) for line in lines[1:]]  # stage 5
        if not line or None in fields:
            raise Refused(400, "this is no request")
        self.headers = [(field[1].lower(), field[2]) for field in fields]
        self.method = line[1].decode()
        self.is_old = line[3] == b"1" and line[4] == b"0"
        if line[3] != b"1":
            raise Refused(505, "this server speaks HTTP/1.1")
        if self.method not in METHODS:
            raise Refused(501, "nobody knows this method")
        hosts = self.all(b"host")
        if len(hosts) != 1 and not (self.is_old and not hosts) or not all(map(HOST.fullmatch, hosts)):
            raise Refused(400, "a request has one Host, and a valid one")
        connection = self.list(b"connection")
        self.wants_close = "close" in connection or self.is_old and "keep-alive" not in connection
        self.expects = not self.is_old and self.list(b"expect")
        if self.expects and set(self.expects) != {"100-continue"}:
            raise Refused(417, "nothing but 100-continue can be expected")
        self.find_path(line[2])
        self.find_body()

    def all(self, name):
        return [value for other, value in self.headers if other == name]

    def list(self, name):
        elements = b",".join(self.all(name)).decode("latin-1").lower().split(",")
        return [element.strip(" \t") for element in elements if element.strip(" \t")]

    def find_path(self, target):
        path = re.sub(rb"^https?://[^/?]+/?", b"/", target).split(b"?")[0]
        if not path.startswith(b"/") and (path, self.method) != (b"*", "OPTIONS"):
            raise Refused(400, "a target begins with a slash")
        if re.search(rb"%(?![0-9A-Fa-f]{2})", path):
            raise Refused(400, "a percent sign begins an escape of two digits")
        self.place, slash, rest = path.removeprefix(b"/").partition(b"/")
        self.rest = rest if slash else None  # not decoded yet: an escaped slash separates nothing

    def find_body(self):
        codings, lengths = self.list(b"transfer-encoding"), self.all(b"content-length")
        self.is_chunked, is_twice = bool(self.all(b"transfer-encoding")), codings.count("chunked") > 1
        if self.is_chunked and (lengths or self.is_old) or len(lengths) > 1 or is_twice:
            raise Refused(400, "the end of the body can be read in two ways")
        if self.is_chunked and codings != ["chunked"]:
            raise Refused(501, "this server knows no transfer coding but chunked")
        if lengths and not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise Refused(400, "a Content-Length is a number")
        if lengths and (len(lengths[0]) > 15 or int(lengths[0]) > args.max_body):
            raise Refused(413, "the body is too large for this server")
        self.length = int(lengths[0]) if lengths else None
        self.is_read = not self.is_chunked and not self.length

    def body(self):
        """The content of the body, piece by piece."""
        if self.expects and not self.is_read:
            self.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        yield from self.chunks() if self.is_chunked else self.content(self.length)
        self.is_read = True

    def content(self, left):
        while left > 0:
            piece = self.reader.read1(min(left, BLOCK))
            if not piece:
                raise Refused(400, "the client left in the middle of its body")
            left -= len(piece)
            yield piece

    def chunks(self):  # stage 13
        total, extensions = 0, 0
        while True:
            line = self.reader.readline(MAX_HEAD)
            chunk = CHUNK.fullmatch(line)
            extensions += len(line)
            if len(line) == MAX_HEAD or extensions > total + MAX_HEAD:
                raise Refused(431, "there is too much in the body that is not content")
            if not chunk:
                raise Refused(400, "the body is not made of chunks")
            size = int(chunk[1], 16)
            total += size
            if total > args.max_body:
                raise Refused(413, "the body is too large for this server")
            if size == 0:
                return self.trailers()
            yield from self.content(size)
            if b"".join(self.content(2)) != b"\r\n":
                raise Refused(400, "a chunk does not end where its size says")

    def trailers(self):
        left = MAX_HEAD
        for _ in range(MAX_LINES + 1):
            line = self.reader.readline(left)
            left -= len(line)
            if line == b"\r\n":
                return
            if left == 0:
                break
            if not line.endswith(b"\r\n") or not FIELD.fullmatch(line[:-2]):
                raise Refused(400, "what follows the last chunk are headers")
        raise Refused(431, "there is too much in the body that is not content")


class Response:
    """A status, headers, and a body: bytes, or pieces that come one by one."""

    def __init__(self, status, *headers, body=b"", length=None):
        self.status, self.headers, self.body = status, list(headers), body
        self.length = len(body) if isinstance(body, bytes) else length

    @staticmethod
    def refused(refused):
        body = refused.why.encode() + b"\n"
        return Response(refused.status, *refused.headers, "Content-Type: text/plain", body=body)

    def send(self, stream, request, is_last):
        """Sends it, and returns whether it was the last one on this connection."""
        in_chunks = self.length is None and not (request and request.is_old)
        is_last = is_last or self.length is None and not in_chunks
        lines = [f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}", *self.headers]
        lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if in_chunks:
            lines.append("Transfer-Encoding: chunked")
        elif self.length is not None:
            lines.append(f"Content-Length: {self.length}")
        if is_last:
            lines.append("Connection: close")
        elif request.is_old:
            lines.append("Connection: keep-alive")
        head = "\r\n".join([*lines, "", ""]).encode()
        if isinstance(self.body, bytes):
            stream.send(head + self.body)
        else:
            stream.send(head)
            for piece in self.body:
                stream.send(b"%x\r\n%b\r\n" % (len(piece), piece) if in_chunks else piece)
            if in_chunks:
                stream.send(b"0\r\n\r\n")
        return is_last


def route(request):
    allowed, handle = ROUTES.get((request.place, request.rest is not None), ([], None))
    if handle is None:
        return Response.refused(Refused(404, "there is nothing here"))
    allow = f"Allow: {', '.join(allowed)}"
    if request.method not in allowed:
        return Response.refused(Refused(405, "this method is not for this resource", allow))
    return Response(200, allow) if request.method == "OPTIONS" else handle(request)


def accepts_gzip(request):  # stage 9
    elements = map(WEIGHT.fullmatch, request.list(b"accept-encoding"))
    weights = {element[1]: float(element[2] or 1) for element in elements if element}
    return weights.get("gzip", weights.get("*", 0)) > 0


def compressed(pieces):
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def echo(request):
    text = unquote_to_bytes(request.rest)
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the text is not UTF-8") from None
    kind = "text/plain" if text.isascii() else "text/plain; charset=utf-8"
    headers = [f"Content-Type: {kind}", "Vary: Accept-Encoding"]
    if accepts_gzip(request):
        return Response(200, *headers, "Content-Encoding: gzip", body=b"".join(compressed([text])))
    return Response(200, *headers, body=text)


def user_agent(request):
    found = (request.all(b"user-agent") or [b""])[0]
    return Response(200, "Content-Type: text/plain", "Vary: User-Agent", body=found)


def countdown(request):
    if not re.fullmatch(rb"[1-9]|[1-5][0-9]|60", request.rest):
        return Response.refused(Refused(404, "a countdown begins between 1 and 60"))

    def lines():
        for number in range(int(request.rest), 0, -1):
            yield b"%d\n" % number
            time.sleep(1 if number > 1 else 0)

    return Response(200, "Content-Type: text/plain", body=lines())


def files(request):
    try:
        if (file := inside(request.rest)) is None:
            return Response.refused(Refused(404, "there is no such file"))
        return store(request, file) if request.method == "POST" else fetch(request, file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Response.refused(Refused(404, "there is no such file"))
    except PermissionError:
        return Response.refused(Refused(403, "this file is not for you"))


def inside(rest):  # stage 7: links and `..` resolved, it must still be below the directory
    names = [os.fsdecode(unquote_to_bytes(name)) for name in rest.split(b"/")]
    if args.directory is None or any(len(name) > 255 or re.search(r"[/\0]", name) for name in names):
        return None
    file = os.path.realpath(os.path.join(args.directory, *names))
    return file if file.startswith(os.path.join(args.directory, "")) and names[-1] else None


def fetch(request, file):
    # A link or a pipe that was put there since is neither followed nor waited for.
    flags = sum(getattr(os, name, 0) for name in ["O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"])
    content = open(os.open(file, os.O_RDONLY | flags), "rb", buffering=0)
    found = os.fstat(content.fileno())
    if not stat.S_ISREG(found.st_mode):
        content.close()
        raise FileNotFoundError
    headers = ["Content-Type: application/octet-stream", "Vary: Accept-Encoding"]
    pieces = read(content, found.st_size)
    if accepts_gzip(request):
        return Response(200, *headers, "Content-Encoding: gzip", body=compressed(pieces))
    return Response(200, *headers, body=pieces, length=found.st_size)


def read(content, left):
    with content:
        while left > 0:
            if not (piece := content.read(min(left, BLOCK))):
                raise OSError("a file has become shorter")  # the client sees that something is missing
            left -= len(piece)
            yield piece


def store(request, file):  # stage 8
    if request.length is None and not request.is_chunked:
        raise Refused(411, "an upload says how long it is")
    if request.list(b"content-encoding"):
        raise Refused(415, "an upload comes as it is, and not compressed")
    if request.all(b"content-range"):
        raise Refused(400, "an upload is a whole file")
    mode = 0o644
    if os.path.lexists(file):
        mode = os.stat(file).st_mode
        if not stat.S_ISREG(mode) or not os.access(file, os.W_OK):
            raise Refused(403, "this file cannot be replaced")
    handle, part = tempfile.mkstemp(dir=os.path.dirname(file), prefix=".upload-")
    try:
        with open(handle, "wb") as output:
            for piece in request.body():
                output.write(piece)
        os.chmod(part, stat.S_IMODE(mode))
        os.replace(part, file)
    except BaseException:
        os.remove(part)
        raise
    return Response(201)


READING, ALL = ["GET", "HEAD", "OPTIONS"], ["GET", "HEAD", "OPTIONS", "POST"]
ROUTES = {  # the first name of a path, and whether a slash follows it
    (b"", False): (READING, lambda _: Response(200)),
    (b"*", False): (ALL, lambda _: Response(200)),
    (b"echo", True): (READING, echo),
    (b"user-agent", False): (READING, user_agent),
    (b"files", True): (ALL, files),
    (b"countdown", True): (READING, countdown),
}

main()
