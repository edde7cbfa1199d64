"""All nine stages in Python, with nothing but its standard library's sockets.

SERVER="python3 docs/other-languages/server.py" cargo next
"""

import gzip, os, re, socket, sys, tempfile, threading
from urllib.parse import unquote_to_bytes

PORT = int(os.environ.get("PORT", "4221"))
ROOT = os.path.realpath(sys.argv[sys.argv.index("--directory") + 1]) if "--directory" in sys.argv else None
LIMIT = 8 << 30  # the most bytes of a body


def main():
    with socket.create_server(("127.0.0.1", PORT)) as listener:  # stage 1
        print(f"listening on http://127.0.0.1:{PORT}", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()  # stage 6


def serve(client):
    client.settimeout(10)
    try:
        with client, client.makefile("rb") as reader:  # one reader, for head and body
            head = list(iter(lambda: reader.readline(16384), b"\r\n"))  # stage 2: up to the blank line
            if b"" in head or len(head) > 100:
                return  # the client left, or does not stop
            try:
                client.sendall(answer(head, reader, client))
            except ValueError:  # a field without a colon, a weight that is no number
                client.sendall(response("400 Bad Request"))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):  # what is unread would reset the connection
                pass
    except OSError as error:
        print(error, file=sys.stderr)


def answer(head, reader, client):
    line = re.fullmatch(rb"(\S+) (\S+) HTTP/1\.[01]\r\n", head[0])  # stage 3
    path = line and line[2].split(b"?")[0]
    if not line or re.search(rb"%(?![0-9A-Fa-f]{2})", path):
        return response("400 Bad Request")
    path = unquote_to_bytes(path).decode("utf-8", "replace")
    fields = [field.split(b":", 1) for field in head[1:]]  # stage 5
    headers = [(name.lower(), value.strip(b" \t\r\n")) for name, value in fields]
    first = dict(reversed(headers))
    if path == "/":
        return response("200 OK")
    if path.startswith("/echo/"):  # stage 4
        return echo(path[6:].encode(), first.get(b"accept-encoding", b""))
    if path == "/user-agent":
        return response("200 OK", first.get(b"user-agent", b""), "Content-Type: text/plain")
    if path.startswith("/files/") and (file := inside(path[7:])):
        return store(file, headers, reader, client) if line[1] == b"POST" else fetch(file)
    return response("404 Not Found")


def response(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def echo(text, accepted):  # stage 9
    weights = {}
    for element in accepted.decode("latin-1").lower().split(","):
        name, _, weight = element.partition(";")
        weights[name.strip()] = float(re.sub(r"^\s*q=", "", weight) or 1)
    headers = ["Content-Type: text/plain", "Vary: Accept-Encoding"]
    if weights.get("gzip", weights.get("*", 0)) > 0:
        return response("200 OK", gzip.compress(text), *headers, "Content-Encoding: gzip")
    return response("200 OK", text, *headers)


def inside(name):  # stage 7: links and `..` resolved, it must still be below ROOT
    if ROOT is None or "\0" in name:
        return None
    file = os.path.realpath(os.path.join(ROOT, name))
    return file if file.startswith(ROOT + os.sep) and not os.path.isdir(file) else None


def fetch(file):
    if not os.path.isfile(file):
        return response("404 Not Found")
    with open(file, "rb") as content:
        return response("200 OK", content.read(), "Content-Type: application/octet-stream")


def store(file, headers, reader, client):  # stage 8
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit():
        return response("400 Bad Request")
    if (left := int(lengths[0])) > LIMIT:
        return response("413 Content Too Large")
    if (b"expect", b"100-continue") in headers:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(file), prefix=".upload-", delete=False) as part:
        try:
            while left > 0:
                if not (piece := reader.read1(min(left, 65536))):
                    raise ConnectionError("the client left in the middle of its body")
                left -= part.write(piece)
            part.close()
            os.replace(part.name, file)
        except BaseException:
            os.remove(part.name)
            raise
    return response("201 Created")


main()
