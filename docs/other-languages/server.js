// Stages 1 to 13 in JavaScript, with nothing but Node's sockets.
//
// SERVER="node docs/other-languages/server.js" cargo next

const fs = require("node:fs");
const http = require("node:http"); // for the names of its statuses
const net = require("node:net");
const path = require("node:path");
const { pipeline } = require("node:stream");
const { parseArgs } = require("node:util");
const zlib = require("node:zlib");

const { values: args } = parseArgs({
  options: {
    port: { type: "string", default: process.env.PORT ?? "4221" },
    directory: { type: "string" },
    "max-connections": { type: "string", default: "400" },
    "max-body": { type: "string", default: String(2 ** 30) },
    "head-timeout": { type: "string", default: "10" },
    "body-timeout": { type: "string", default: "20" },
    "idle-timeout": { type: "string", default: "10" },
  },
});
const root = args.directory === undefined ? null : fs.realpathSync(args.directory);

const MAX_HEAD = 16384; // bytes; also for what is not content in a body of chunks
const MAX_LINES = 100;
const BLOCK = 65536;
const [SEND_TIME, STOP_TIME, LINGER_TIME] = [60, 10, 2]; // seconds

const REQUEST_LINE = /^([!#$%&'*+.^_`|~\w-]+) ([^\0- "#<>\\\x7f]+) HTTP\/(\d)\.(\d)$/;
const FIELD = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*?)[ \t]*$/;
const HOST = /^(\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i;
const CHUNK = /^([\da-f]{1,13})([ \t]*;[^\0-\x08\x0a-\x1f\x7f]*)?$/i;
const WEIGHT = /^([^ \t;]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?$/;
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];

const clients = new Set();
let stopping = false;
let uploads = 0;

// Thrown, it is the last answer of its connection: nobody knows where the next request begins.
class Refused extends Error {
  constructor(status, why, ...headers) {
    super(why);
    Object.assign(this, { status, headers });
  }
}

// Stages 1 and 6: Node waits for all clients at once.
const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  const client = new Client(socket);
  const most = Number(args["max-connections"]);
  if (clients.size >= most + 64) return socket.destroy();
  const work = clients.size < most ? serve(client) : turnAway(client);
  clients.add(client);
  work.catch((error) => console.error(error.message)).finally(() => { // it has left, perhaps
    socket.destroy();
    clients.delete(client);
  });
});
server.listen({ port: Number(args.port), host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, stop);

function stop() { // stage 12: no new clients, and time for those who are here
  if (stopping) process.exit(130); // it is the second signal: somebody is in a hurry
  stopping = true;
  server.close();
  for (const client of clients) if (client.isIdle) client.socket.destroy();
  setTimeout(() => process.exit(), STOP_TIME * 1000).unref();
}

async function serve(client) {
  for (let isLast = false; !isLast;) { // stage 10
    let [request, lines] = [null, [""]];
    let response;
    try {
      if (stopping || !(await client.waitForRequest())) return;
      client.allow(Number(args["head-timeout"]), 0);
      lines = await readHead(client);
      request = new Request(lines, client);
      client.allow(Number(args["body-timeout"]));
      response = await route(request);
      isLast = stopping || request.wantsClose || !request.isRead;
    } catch (error) {
      isLast = true;
      if (!(error instanceof Refused)) console.error(error);
      const mistake = new Refused(500, "this server has made a mistake"); // the others go on
      response = refusal(error instanceof Refused ? error : mistake); // stage 11
    }
    if (lines[0].startsWith("HEAD ")) response.body = Buffer.alloc(0); // the head says its length
    isLast = await response.send(client, request, isLast);
  }
  await client.linger();
}

async function turnAway(client) {
  const refused = new Refused(503, "there are too many clients; try again soon", "Retry-After: 1");
  await refusal(refused).send(client, null, true);
  await client.linger();
}

// What a client sends, within its time, and what it gets.
class Client {
  received = Buffer.alloc(0);
  isIdle = false;
  wake = () => {};

  constructor(socket) {
    this.socket = socket;
    for (const event of ["readable", "end", "close"]) socket.on(event, () => this.wake());
    socket.on("error", () => {}); // "close" follows
  }

  allow(seconds, perByte = 1) { // stage 12: so long, and a little more for each byte
    Object.assign(this, { most: seconds * 1000, perByte });
    this.deadline = performance.now() + this.most;
  }

  // Adds what comes next to what was received; false when the client has left.
  async fill() {
    for (;;) {
      const piece = this.socket.read();
      const now = performance.now();
      if (piece !== null) {
        this.deadline = Math.min(this.deadline + piece.length * this.perByte, now + this.most);
        this.received = this.received.length ? Buffer.concat([this.received, piece]) : piece;
        return true;
      }
      if (this.socket.readableEnded || this.socket.destroyed) return false;
      if (now >= this.deadline) throw new Refused(408, "the request took too long to arrive");
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.max(this.deadline - now, 1));
        this.wake = () => resolve(clearTimeout(timer));
      });
    }
  }

  async waitForRequest() {
    this.allow(Number(args["idle-timeout"]));
    this.isIdle = this.received.length === 0;
    try {
      return this.received.length > 0 || (await this.fill());
    } catch {
      return false; // it has nothing to ask
    } finally {
      this.isIdle = false;
    }
  }

  // A line without its CR LF; undefined when it has more than `most` bytes.
  async line(most) {
    for (let searched = 0; ;) {
      const end = this.received.indexOf("\n", searched);
      if (end < 0 ? this.received.length >= most : end >= most) return undefined;
      searched = this.received.length;
      if (end < 0 && (await this.fill())) continue;
      const line = this.take(end + 1).toString("latin1");
      if (!line.endsWith("\r\n")) throw new Refused(400, "a line does not end with CR LF");
      return line.slice(0, -2);
    }
  }

  // Up to so many bytes of what has been received.
  take(most) {
    const taken = this.received.subarray(0, most);
    this.received = this.received.subarray(taken.length);
    return taken;
  }

  send(data) {
    return new Promise((resolve, reject) => {
      const giveUp = () => this.socket.destroy(new Error("a client takes nothing"));
      const timer = setTimeout(giveUp, SEND_TIME * 1000);
      this.socket.write(data, (error) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  async linger() { // what is unread would reset the connection, and the answer with it
    this.socket.end();
    this.allow(LINGER_TIME, 0);
    try {
      while (await this.fill()) this.received = Buffer.alloc(0);
    } catch {} // enough of it
  }
}

async function readHead(client) { // stage 2: lines up to the blank one
  const lines = [];
  for (let left = MAX_HEAD; ;) {
    const line = await client.line(left);
    if (line === undefined) throw new Refused(lines.length ? 431 : 414, "the head is too large");
    left -= line.length + 2;
    if (line !== "") lines.push(line);
    else if (lines.length) return lines;
    if (lines.length > MAX_LINES) throw new Refused(431, "there are too many headers");
  }
}

class Request {
  constructor(lines, client) {
    this.client = client;
    const line = REQUEST_LINE.exec(lines[0]); // stage 3
    const fields = lines.slice(1).map((line) => FIELD.exec(line)); // stage 5
    if (!line || fields.includes(null)) throw new Refused(400, "this is no request");
    this.headers = fields.map(([, name, value]) => [name.toLowerCase(), value]);
    this.method = line[1];
    this.isOld = line[3] === "1" && line[4] === "0";
    if (line[3] !== "1") throw new Refused(505, "this server speaks HTTP/1.1");
    if (!METHODS.includes(this.method)) throw new Refused(501, "nobody knows this method");
    const hosts = this.all("host");
    if ((hosts.length !== 1 && !(this.isOld && !hosts.length)) || !hosts.every((it) => HOST.test(it))) {
      throw new Refused(400, "a request has one Host, and a valid one");
    }
    const connection = this.list("connection");
    this.wantsClose = connection.includes("close") || (this.isOld && !connection.includes("keep-alive"));
    const expected = this.isOld ? [] : this.list("expect");
    this.expects = expected.length > 0;
    if (expected.some((it) => it !== "100-continue")) {
      throw new Refused(417, "nothing but 100-continue can be expected");
    }
    this.findPath(line[2]);
    this.findBody();
  }

  all(name) {
    return this.headers.filter((it) => it[0] === name).map((it) => it[1]);
  }

  list(name) {
    const elements = this.all(name).join().toLowerCase().split(",");
    return elements.map((it) => it.replace(/^[ \t]+|[ \t]+$/g, "")).filter(Boolean);
  }

  findPath(target) {
    const [path] = target.replace(/^https?:\/\/[^/?]+\/?/, "/").split("?");
    if (!path.startsWith("/") && (path !== "*" || this.method !== "OPTIONS")) {
      throw new Refused(400, "a target begins with a slash");
    }
    if (/%(?![\da-f]{2})/i.test(path)) {
      throw new Refused(400, "a percent sign begins an escape of two digits");
    }
    // The rest is not decoded yet: an escaped slash separates nothing.
    [, this.place, this.rest] = /^\/?([^/]*)(?:\/(.*))?$/s.exec(path);
  }

  findBody() {
    const [codings, lengths] = [this.list("transfer-encoding"), this.all("content-length")];
    this.isChunked = this.all("transfer-encoding").length > 0;
    const isTwice = codings.filter((it) => it === "chunked").length > 1;
    if ((this.isChunked && (lengths.length || this.isOld)) || lengths.length > 1 || isTwice) {
      throw new Refused(400, "the end of the body can be read in two ways");
    }
    if (this.isChunked && codings.join() !== "chunked") {
      throw new Refused(501, "this server knows no transfer coding but chunked");
    }
    if (lengths.length && !/^\d+$/.test(lengths[0])) throw new Refused(400, "a Content-Length is a number");
    this.length = lengths.length ? Number(lengths[0]) : null;
    if (this.length > Number(args["max-body"])) {
      throw new Refused(413, "the body is too large for this server");
    }
    this.isRead = !this.isChunked && !this.length;
  }

  // The content of the body, piece by piece.
  async *body() {
    if (this.expects && !this.isRead) await this.client.send("HTTP/1.1 100 Continue\r\n\r\n");
    yield* this.isChunked ? this.chunks() : this.content(this.length);
    this.isRead = true;
  }

  async *content(left) {
    while (left > 0) {
      if (!this.client.received.length && !(await this.client.fill())) {
        throw new Refused(400, "the client left in the middle of its body");
      }
      const piece = this.client.take(left);
      left -= piece.length;
      yield piece;
    }
  }

  async *chunks() { // stage 13
    for (let [total, extensions] = [0, 0]; ;) {
      const line = await this.client.line(MAX_HEAD);
      extensions += line?.length;
      if (line === undefined || extensions > total + MAX_HEAD) {
        throw new Refused(431, "there is too much in the body that is not content");
      }
      const chunk = CHUNK.exec(line);
      if (!chunk) throw new Refused(400, "the body is not made of chunks");
      const size = parseInt(chunk[1], 16);
      total += size;
      if (total > Number(args["max-body"])) throw new Refused(413, "the body is too large for this server");
      if (size === 0) return this.trailers();
      yield* this.content(size);
      if ((await this.client.line(2)) !== "") {
        throw new Refused(400, "a chunk does not end where its size says");
      }
    }
  }

  async trailers() {
    for (let [left, count] = [MAX_HEAD, 0]; ; count++) {
      const line = await this.client.line(left);
      if (line === "") return;
      if (line === undefined || count === MAX_LINES) {
        throw new Refused(431, "there is too much in the body that is not content");
      }
      if (!FIELD.test(line)) throw new Refused(400, "what follows the last chunk are headers");
      left -= line.length + 2;
    }
  }
}

// A status, headers, and a body: bytes, or pieces that come one by one, of a length that may be
// undefined.
class Response {
  constructor(status, headers = [], body = Buffer.alloc(0), length = body.length) {
    Object.assign(this, { status, headers, body, length });
  }

  // Sends it, and returns whether it was the last one on this connection.
  async send(client, request, isLast) {
    const inChunks = this.length === undefined && !request?.isOld;
    isLast ||= this.length === undefined && !inChunks;
    const lines = [`HTTP/1.1 ${this.status} ${http.STATUS_CODES[this.status]}`, ...this.headers];
    lines.push(`Date: ${new Date().toUTCString()}`);
    if (inChunks) lines.push("Transfer-Encoding: chunked");
    else if (this.length !== undefined) lines.push(`Content-Length: ${this.length}`);
    if (isLast) lines.push("Connection: close");
    else if (request.isOld) lines.push("Connection: keep-alive");
    const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
    if (Buffer.isBuffer(this.body)) await client.send(Buffer.concat([head, this.body]));
    else {
      await client.send(head);
      for await (const piece of this.body) {
        const size = `${piece.length.toString(16)}\r\n`;
        await client.send(inChunks ? Buffer.concat([Buffer.from(size), piece, Buffer.from("\r\n")]) : piece);
      }
      if (inChunks) await client.send("0\r\n\r\n");
    }
    return isLast;
  }
}

function refusal({ status, message, headers }) {
  return new Response(status, [...headers, "Content-Type: text/plain"], Buffer.from(`${message}\n`));
}

const [READING, ALL] = [["GET", "HEAD", "OPTIONS"], ["GET", "HEAD", "OPTIONS", "POST"]];
const ROUTES = { // the first name of a path, and the slash that follows it, if one does
  "": [READING, () => new Response(200)],
  "*": [ALL, () => new Response(200)],
  "echo/": [READING, echo],
  "user-agent": [READING, userAgent],
  "files/": [ALL, files],
  "countdown/": [READING, countdown],
};

function route(request) {
  const key = request.place + (request.rest === undefined ? "" : "/");
  if (!Object.hasOwn(ROUTES, key)) return refusal(new Refused(404, "there is nothing here"));
  const [allowed, handle] = ROUTES[key];
  const allow = `Allow: ${allowed.join(", ")}`;
  if (!allowed.includes(request.method)) {
    return refusal(new Refused(405, "this method is not for this resource", allow));
  }
  return request.method === "OPTIONS" ? new Response(200, [allow]) : handle(request);
}

function decoded(text) {
  const unescaped = text.replace(/%(..)/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
  return Buffer.from(unescaped, "latin1"); // which has one character for each byte
}

function acceptsGzip(request) { // stage 9
  const elements = request.list("accept-encoding").map((it) => WEIGHT.exec(it)).filter(Boolean);
  const weights = new Map(elements.map(([, name, weight]) => [name, Number(weight ?? 1)]));
  return (weights.get("gzip") ?? weights.get("*") ?? 0) > 0;
}

function echo(request) { // stage 4
  const text = decoded(request.rest);
  if (!Buffer.from(text.toString()).equals(text)) throw new Refused(400, "the text is not UTF-8");
  const isAscii = text.every((byte) => byte < 128);
  const type = isAscii ? "text/plain" : "text/plain; charset=utf-8";
  const headers = [`Content-Type: ${type}`, "Vary: Accept-Encoding"];
  if (!acceptsGzip(request)) return new Response(200, headers, text);
  return new Response(200, [...headers, "Content-Encoding: gzip"], zlib.gzipSync(text));
}

function userAgent(request) {
  const found = Buffer.from(request.all("user-agent")[0] ?? "", "latin1");
  return new Response(200, ["Content-Type: text/plain", "Vary: User-Agent"], found);
}

function countdown(request) {
  if (!/^([1-9]|[1-5]\d|60)$/.test(request.rest)) {
    return refusal(new Refused(404, "a countdown begins between 1 and 60"));
  }
  async function* lines() {
    for (let number = Number(request.rest); number > 0; number--) {
      yield Buffer.from(`${number}\n`);
      if (number > 1) await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  return new Response(200, ["Content-Type: text/plain"], lines());
}

async function files(request) {
  try {
    const file = await inside(request.rest);
    return await (request.method === "POST" ? store(request, file) : fetch(request, file));
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP"].includes(error.code)) {
      return refusal(new Refused(404, "there is no such file"));
    }
    if (!["EACCES", "EPERM"].includes(error.code)) throw error;
    return refusal(new Refused(403, "this file is not for you"));
  }
}

// Stage 7: links and `..` resolved, it must still be below the directory. Names are bytes here:
// not all of them are text.
async function inside(rest) {
  const nothing = Object.assign(new Error("there is no such file"), { code: "ENOENT" });
  const names = rest.split("/").map(decoded);
  if (root === null || names.some((name) => name.includes("/") || name.includes(0))) throw nothing;
  if ([".", "..", ""].includes(names.at(-1).toString())) throw nothing;
  const resolve = (parts) => fs.promises.realpath(Buffer.concat(parts), { encoding: "buffer" });
  const slash = Buffer.from(path.sep);
  const folder = await resolve([Buffer.from(root), ...names.slice(0, -1).flatMap((it) => [slash, it])]);
  const wanted = [folder, slash, names.at(-1)];
  const file = await resolve(wanted).catch((error) => {
    if (error.code !== "ENOENT") throw error;
    return Buffer.concat(wanted); // it may be created
  });
  const start = Buffer.from(root.endsWith(path.sep) ? root : root + path.sep);
  if (!file.subarray(0, start.length).equals(start)) throw nothing;
  return { file, folder: file.subarray(0, file.lastIndexOf(path.sep)) };
}

async function fetch(request, { file }) {
  // A link or a pipe that was put there since is neither followed nor waited for.
  const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = fs.constants;
  const content = await fs.promises.open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const found = await content.stat();
  const isWanted = found.isFile() && request.method !== "HEAD";
  if (!isWanted) await content.close();
  if (!found.isFile()) throw Object.assign(new Error("this is no file"), { code: "EISDIR" });
  const headers = ["Content-Type: application/octet-stream", "Vary: Accept-Encoding"];
  const pieces = isWanted ? read(content, found.size) : [];
  if (!acceptsGzip(request)) return new Response(200, headers, pieces, found.size);
  const packed = isWanted ? pipeline(pieces, zlib.createGzip({ level: 1 }), () => {}) : {};
  return new Response(200, [...headers, "Content-Encoding: gzip"], packed);
}

async function* read(content, left) {
  try {
    while (left > 0) {
      const { bytesRead, buffer } = await content.read(Buffer.alloc(Math.min(left, BLOCK)));
      if (bytesRead === 0) throw new Error("a file has become shorter"); // the client sees it
      left -= bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await content.close();
  }
}

async function store(request, { file, folder }) { // stage 8
  if (request.length === null && !request.isChunked) throw new Refused(411, "an upload says how long it is");
  if (request.list("content-encoding").length) {
    throw new Refused(415, "an upload comes as it is, and not compressed");
  }
  if (request.all("content-range").length) throw new Refused(400, "an upload is a whole file");
  const before = await fs.promises.stat(file).catch(() => null);
  if (before) await fs.promises.access(file, fs.constants.W_OK);
  if (before && !before.isFile()) throw new Refused(403, "this file cannot be replaced");
  const name = `${path.sep}.upload-${process.pid}-${uploads++}`;
  const part = Buffer.concat([folder, Buffer.from(name)]);
  const output = await fs.promises.open(part, "wx");
  try {
    for await (const piece of request.body()) await output.writeFile(piece);
    if (before) await output.chmod(before.mode & 0o777);
    await output.close();
    await fs.promises.rename(part, file);
  } catch (error) {
    await output.close();
    await fs.promises.unlink(part);
    throw error;
  }
  return new Response(201);
}
