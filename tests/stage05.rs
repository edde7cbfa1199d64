//! Stage 5 · `/user-agent` answers with the value of the header `User-Agent`.
//!
//! A header is a line `Name: value`. The name may be written in upper or lower case, and white space around the
//! value is not part of it.

use harness::{Check, Server};

#[test]
fn answers_with_the_user_agent() -> Check {
    let server = Server::start("stage05")?;
    server
        .request("GET", "/user-agent")
        .header("User-Agent: foobar/1.2.3")
        .send()
        .status(200)
        .header("Content-Type", "text/plain")
        .body("foobar/1.2.3")
        .because(
            "The body must be the value of User-Agent, without the white space around it and without the line \
             end.",
        )
}

#[test]
fn header_names_ignore_case() -> Check {
    let server = Server::start("stage05")?;
    for name in ["user-agent", "USER-AGENT", "uSeR-aGeNt"] {
        let request = server.request("GET", "/user-agent").header(format!("{name}: me"));
        request.send().status(200).body("me").because(
            "Case does not matter in header names: some clients send User-Agent, others user-agent (RFC 9110, \
             section 5.1).",
        )?;
    }
    Ok(())
}

#[test]
fn white_space_around_a_value_is_not_part_of_it() -> Check {
    let server = Server::start("stage05")?;
    for value in ["me: myself", "  me: myself", "\tme: myself \t "] {
        let request = server.request("GET", "/user-agent").header(format!("User-Agent:{value}"));
        request.send().status(200).body("me: myself").because(
            "White space before and after the value is not part of it, however much there is (RFC 9112, section \
             5). The first colon ends the name; the value may contain more colons.",
        )?;
    }
    Ok(())
}

#[test]
fn finds_the_header_among_others() -> Check {
    let server = Server::start("stage05")?;
    server
        .request("GET", "/user-agent")
        .header("X-User-Agent: wrong")
        .header("X-Note: User-Agent: wrong")
        .header("User-Agent: right")
        .header("User-Agent-Hint: wrong")
        .send()
        .status(200)
        .body("right")
        .because("Compare the whole header name, from the beginning of the line to the first colon. Three other \
                  headers here contain \"User-Agent\" in their names or values.")
}

#[test]
fn length_counts_bytes() -> Check {
    let server = Server::start("stage05")?;
    let request = server.request("GET", "/user-agent").header("User-Agent: café/1.0");
    request
        .send()
        .status(200)
        .body("café/1.0")
        .because("The value is \"café/1.0\", which has 9 bytes, because \"é\" has two (c3 a9). Send the same \
                  bytes back, and count bytes for Content-Length.")
}

#[test]
fn takes_bytes_that_are_not_text() -> Check {
    let server = Server::start("stage05")?;
    let request = server.request("GET", "/user-agent").header(b"User-Agent: caf\xe9/1.0");
    let answer = request.send().no_server_error();
    let is_sent = answer.has_status(200);
    let answer = if is_sent { answer.body(b"caf\xe9/1.0") } else { answer.refused() };
    answer.because(
        "A header value is bytes, which need not be UTF-8. Here, the byte e9 is \"é\" in Latin-1, an older \
         encoding. Send the same bytes back, or answer 400.",
    )?;
    server.get("/").status(200).because(
        "The request before this one had a header value that is not UTF-8. Your server must still answer the \
         next request.",
    )
}

#[test]
fn goes_on_without_the_header() -> Check {
    let server = Server::start("stage05")?;
    server.get("/user-agent").no_server_error().because(
        "Headers are optional, and this request has no User-Agent. Answer 200 with an empty body, or 400.",
    )?;
    server.request("GET", "/user-agent").header("no colon").send().no_server_error().because(
        "One line of this head has no colon, so it is no header. Ignore it or answer 400, but answer.",
    )?;
    server.get("/").status(200).because(
        "The request before this one had no User-Agent. Your server must still answer the next request.",
    )
}
