//! Stage 3 · Look at the path: `/` exists, and nothing else does.
//!
//! The first line of a request has three words: method, target, version. The answer to `GET / HTTP/1.1` is 200
//! as before. The answer to any other path is `404 Not Found`, and the answer to a malformed first line is
//! `400 Bad Request`.

use harness::{Check, Server};

#[test]
fn answers_404_for_any_other_path() -> Check {
    let server = Server::start("stage03")?;
    for path in ["/missing", "/index.html", "/%41", "//"] {
        server
            .get(path)
            .status(404)
            .because("Only the path / exists. Answer 404 Not Found for any other path.")?;
    }
    server.get("/").status(200).because("The path / exists. Answer 200.")
}

#[test]
fn takes_the_path_from_the_request_line_and_nowhere_else() -> Check {
    let server = Server::start("stage03")?;
    let request = server.request("GET", "/missing").header("Referer: GET / HTTP/1.1");
    request.send().status(404).because(
        "The path is the second word of the first line: /missing. The text \"GET / \" is also in a header, \
         where it means nothing.",
    )
}

#[test]
fn leaves_the_query_out() -> Check {
    let server = Server::start("stage03")?;
    server.get("/?name=value").status(200).because(
        "The path is /, which exists. The part after the question mark is the query, which does not belong to \
         the path. Remove it before you compare the path.",
    )
}

#[test]
fn understands_a_request_that_arrives_byte_by_byte() -> Check {
    let server = Server::start("stage03")?;
    server.request("GET", "/missing").send_byte_by_byte().status(404).because(
        "This request for /missing arrives one byte at a time. TCP carries bytes, not messages: collect the \
         bytes until the blank line has arrived, then look at the path.",
    )
}

#[test]
fn refuses_a_malformed_request_line() -> Check {
    let server = Server::start("stage03")?;
    for line in [
        "NONSENSE",
        "GET /",
        "GET / HTTP/1.1 and more",
        "GET / FTP/1.1",
        "GET / HTTP/1.1 ",
        " / HTTP/1.1",
        "GET  HTTP/1.1",
    ] {
        server.send(format!("{line}\r\n\r\n").as_bytes()).status(400).because(
            "This request line is malformed. Answer 400 Bad Request. A request line is a method, a target and a \
             version such as HTTP/1.1, with one space between them.",
        )?;
    }
    server
        .send(b"GET ? HTTP/1.1\r\n\r\n")
        .refused()
        .because("This target is a query without a path. Answer 400, or 404, but answer.")
}
