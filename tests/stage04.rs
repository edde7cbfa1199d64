//! Stage 4 · `/echo/{text}` answers with the text.
//!
//! This answer has a body, and two headers that describe it: `Content-Type: text/plain` and
//! `Content-Length`, the number of its bytes.

use harness::{Check, Server};

#[test]
fn echoes_the_text_in_the_path() -> Check {
    let server = Server::start("stage04")?;
    for text in ["banana", "a", "to-be_or.not~", "a+b", "with/slash"] {
        server
            .get(&format!("/echo/{text}"))
            .status(200)
            .body(text)
            .because("What follows /echo/ in the path is the body of the answer.")?;
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
        .because("The body is what follows /echo/ in the path, and headers describe it.")
}

#[test]
fn decodes_percent_escapes() -> Check {
    let server = Server::start("stage04")?;
    for (path, text) in
        [("/echo/two%20words", "two words"), ("/echo/what%3F", "what?"), ("/echo/100%25", "100%")]
    {
        server.get(path).status(200).body(text).because(
            "A path cannot contain every byte. The others are written as % and two hexadecimal \
             digits: %20 is a space (RFC 3986, section 2.1).",
        )?;
    }
    Ok(())
}

#[test]
fn counts_bytes_not_characters() -> Check {
    let server = Server::start("stage04")?;
    server.get("/echo/caf%C3%A9").status(200).body("café").because(
        "The body is \"café\", which has five bytes in UTF-8: \"é\" is one character but two bytes, c3 \
         a9, which is why its escape has two parts.",
    )
}

#[test]
fn refuses_broken_escapes() -> Check {
    let server = Server::start("stage04")?;
    for path in ["/echo/100%", "/echo/%4", "/echo/%zz"] {
        server.get(path).status(400).because(
            "After a % come two hexadecimal digits. Do not guess what was meant: \
             another program may guess differently, and see a different path.",
        )?;
    }
    Ok(())
}
