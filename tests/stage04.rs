//! Stage 4 · `/echo/{text}` answers with the text.
//!
//! This answer has a body and two headers that describe it: `Content-Type: text/plain` and `Content-Length`,
//! the number of bytes in the body.

use harness::{Check, Server};

#[test]
fn echoes_the_text_in_the_path() -> Check {
    let server = Server::start("stage04")?;
    for text in ["banana", "a", "to-be_or.not~", "a+b", "with/slash"] {
        server
            .get(&format!("/echo/{text}"))
            .status(200)
            .body(text)
            .because("The body must be the part of the path that follows /echo/.")?;
    }
    Ok(())
}

#[test]
fn describes_the_body() -> Check {
    let server = Server::start("stage04")?;
    server
        .get("/echo/banana")
        .status(200)
        .header("Content-Type", "text/plain")
        .body("banana")
        .framed()
        .because("The body must be the part of the path that follows /echo/. Two headers must describe it: \
                  Content-Type and Content-Length.")
}

#[test]
fn decodes_percent_escapes() -> Check {
    let server = Server::start("stage04")?;
    for (path, text) in [
        ("/echo/two%20words", "two words"),
        ("/echo/what%3F", "what?"),
        ("/echo/100%25", "100%"),
        ("/echo/1+1", "1+1"),
    ] {
        server.get(path).status(200).body(text).because(
            "Some bytes cannot appear in a path. They are written as % and two hexadecimal digits: %20 is a \
             space (RFC 3986, section 2.1). Decode the path before you use it.",
        )?;
    }
    let answer = server.get("/echo/%ff").no_server_error();
    let is_sent = answer.has_status(200);
    let answer = if is_sent { answer.body(b"\xff") } else { answer.refused() };
    answer.because(
        "The byte ff is not UTF-8. Answer 400, or send it as it is, but do not replace it.",
    )
}

#[test]
fn counts_bytes_not_characters() -> Check {
    let server = Server::start("stage04")?;
    server.get("/echo/caf%C3%A9").status(200).body("café").because(
        "The escape %C3%A9 stands for two bytes, which are one character in UTF-8: \"é\". So the body \"café\" \
         has 5 bytes.",
    )
}

#[test]
fn refuses_broken_escapes() -> Check {
    let server = Server::start("stage04")?;
    for path in ["/echo/100%", "/echo/%4", "/echo/%zz", "/echo/%+4", "/echo/%-1"] {
        server.get(path).status(400).because(
            "A % must be followed by two hexadecimal digits. Otherwise, answer 400. Do not guess what the \
             client meant: another program may guess differently and see a different path.",
        )?;
    }
    Ok(())
}
