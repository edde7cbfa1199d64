//! Stage 3 · Look at the path: `/` is there, everything else is not.
//!
//! The first line of a request has three words: method, target, version. `GET / HTTP/1.1` gets
//! 200 as before; any other path gets `404 Not Found`; a first line of another shape gets
//! `400 Bad Request`.

use harness::{Check, Server};

#[test]
fn answers_404_for_any_other_path() -> Check {
    let server = Server::start("stage03")?;
    for path in ["/missing", "/index.html", "/%41", "//"] {
        server.get(path).status(404).because("Only the path / is there; 404 says: not found.")?;
    }
    server.get("/").status(200).because("The path / is there.")
}

#[test]
fn takes_the_path_from_the_request_line_and_nowhere_else() -> Check {
    let server = Server::start("stage03")?;
    let request = server.request("GET", "/missing").header("Referer: GET / HTTP/1.1");
    request.send().status(404).because(
        "The path is the second word of the first line: /missing. The words \"GET / \" stand in a \
         header, where they mean nothing.",
    )
}

#[test]
fn leaves_the_query_out() -> Check {
    let server = Server::start("stage03")?;
    server.get("/?name=value").status(200).because(
        "The path is /, which is there. What follows the question mark is the query: a message to \
         whoever answers for the path.",
    )
}

#[test]
fn understands_a_request_that_arrives_byte_by_byte() -> Check {
    let server = Server::start("stage03")?;
    server.request("GET", "/missing").send_byte_by_byte().status(404).because(
        "This asks for /missing, in pieces of one byte. TCP carries bytes, not messages: collect \
         them until the blank line is there, then look at the path.",
    )
}

#[test]
fn refuses_a_malformed_request_line() -> Check {
    let server = Server::start("stage03")?;
    for line in ["NONSENSE", "GET /", "GET / HTTP/1.1 and more", "GET / FTP/1.1"] {
        server.send(format!("{line}\r\n\r\n").as_bytes()).status(400).because(
            "A client that makes a mistake is told so: 400 Bad Request. A request line is a method, \
             a target and a version, with one space between them.",
        )?;
    }
    Ok(())
}
