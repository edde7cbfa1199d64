// All nine stages in JavaScript, with nothing but Node's sockets.
//
// SERVER="node docs/other-languages/server.js" cargo next

const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const zlib = require("node:zlib");

const port = Number(process.env.PORT ?? 4221);
const given = process.argv.indexOf("--directory");
const root = given < 0 ? null : fs.realpathSync(process.argv[given + 1]);
const LIMIT = 8 * 2 ** 30; // the most bytes of a body
let uploads = 0;

// Stages 1 and 6: Node waits for all clients at once.
const server = net.createServer({ allowHalfOpen: true }, (client) => {
  let received = Buffer.alloc(0);
  client.setTimeout(10_000, () => client.destroy());
  client.on("error", (error) => console.error(error.message));
  client.on("end", () => client.end());
  client.on("data", function collect(piece) { // stage 2: up to the blank line
    received = Buffer.concat([received, piece]);
    const end = received.indexOf("\r\n\r\n");
    if (end < 0 && received.length < 16384) return;
    client.removeListener("data", collect);
    client.pause();
    if (end < 0) return client.end(respond("400 Bad Request"));
    client.unshift(received.subarray(end + 4)); // the body begins here
    const send = (response) => client.end(response) && client.resume();
    answer(received.toString("latin1", 0, end), client, send);
  });
});
server.listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}`));

function answer(head, client, send) {
  const [first, ...lines] = head.split("\r\n");
  const line = /^(\S+) (\S+) HTTP\/1\.[01]$/.exec(first); // stage 3
  let target;
  try {
    target = decodeURIComponent(line[2].split("?")[0]);
  } catch {
    return send(respond("400 Bad Request"));
  }
  const fields = lines.map((it) => /^([^:]+):[ \t]*(.*?)[ \t]*$/.exec(it) ?? ["", "", ""]); // stage 5
  const all = (name) => fields.filter((it) => it[1].toLowerCase() === name).map((it) => it[2]);
  const [, place, name] = /^\/(echo|files)\/(.*)$/s.exec(target) ?? [];
  const file = place === "files" && inside(name);
  if (target === "/") send(respond("200 OK"));
  else if (place === "echo") send(echo(Buffer.from(name), all("accept-encoding").join())); // stage 4
  else if (target === "/user-agent") {
    send(respond("200 OK", Buffer.from(all("user-agent")[0] ?? "", "latin1"), "Content-Type: text/plain"));
  } else if (file && line[1] === "POST") store(file, all, client, send);
  else if (file && fs.existsSync(file)) {
    send(respond("200 OK", fs.readFileSync(file), "Content-Type: application/octet-stream"));
  } else send(respond("404 Not Found"));
}

function respond(status, body = Buffer.alloc(0), ...headers) {
  const lines = [`HTTP/1.1 ${status}`, ...headers, `Content-Length: ${body.length}`, "Connection: close"];
  return Buffer.concat([Buffer.from(lines.join("\r\n") + "\r\n\r\n"), body]);
}

function echo(text, accepted) { // stage 9
  const weights = new Map(accepted.toLowerCase().split(",").map((element) => {
    const [name, weight = "q=1"] = element.split(";");
    return [name.trim(), Number(weight.trim().replace("q=", ""))];
  }));
  const headers = ["Content-Type: text/plain", "Vary: Accept-Encoding"];
  if (!((weights.get("gzip") ?? weights.get("*")) > 0)) return respond("200 OK", text, ...headers);
  return respond("200 OK", zlib.gzipSync(text), ...headers, "Content-Encoding: gzip");
}

function inside(name) { // stage 7: links and `..` resolved, it must still be below root
  if (root === null || name.includes("\0")) return null;
  try {
    const wanted = path.join(root, name);
    const exists = fs.existsSync(wanted);
    const parent = fs.realpathSync(exists ? wanted : path.dirname(wanted));
    const file = exists ? parent : path.join(parent, path.basename(wanted));
    const isDirectory = exists && fs.statSync(file).isDirectory();
    return file.startsWith(root + path.sep) && !isDirectory ? file : null;
  } catch {
    return null;
  }
}

function store(file, all, client, send) { // stage 8
  const [length, another] = all("content-length");
  if (another !== undefined || !/^\d+$/.test(length ?? "")) return send(respond("400 Bad Request"));
  if (Number(length) > LIMIT) return send(respond("413 Content Too Large"));
  if (all("expect").includes("100-continue")) client.write("HTTP/1.1 100 Continue\r\n\r\n");
  const part = path.join(path.dirname(file), `.upload-${process.pid}-${uploads++}`);
  const output = fs.openSync(part, "wx");
  let left = Number(length);
  const finish = () => {
    client.removeAllListeners("data").removeListener("close", abandon);
    fs.closeSync(output);
    if (left > 0) return fs.unlinkSync(part); // the client left in the middle of its body
    fs.renameSync(part, file);
    send(respond("201 Created"));
  };
  const abandon = () => left > 0 && finish();
  client.once("close", abandon).once("end", abandon);
  client.on("data", (piece) => {
    left -= fs.writeSync(output, piece.subarray(0, left));
    if (left === 0) finish();
  });
  if (left === 0) finish();
  client.resume();
}
