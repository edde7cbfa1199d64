//! Stage 5 · `/user-agent` answers with the value of the header `User-Agent`.
//!
//! A header is a line `Name: value`. Its name may be written in any case, and white space around
//! its value is not part of it.

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
            "The body is the header's value, without the white space around it and without the line \
             end.",
        )
}

#[test]
fn header_names_ignore_case() -> Check {
    let server = Server::start("stage05")?;
    for name in ["user-agent", "USER-AGENT", "uSeR-aGeNt"] {
        let request = server.request("GET", "/user-agent").header(format!("{name}: me"));
        request.send().status(200).body("me").because(
            "Names of headers have no case: some clients write User-Agent, others user-agent \
             (RFC 9110, section 5.1).",
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
            "Between the colon and the value there may be no white space, or much, and after the \
             value as well (RFC 9112, section 5). The first colon ends the name.",
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
        .because("The whole name counts, and it stands at the beginning of its line.")
}

#[test]
fn length_counts_bytes() -> Check {
    let server = Server::start("stage05")?;
    let request = server.request("GET", "/user-agent").header("User-Agent: café/1.0");
    request
        .send()
        .status(200)
        .body("café/1.0")
        .because("Content-Length counts bytes. \"é\" is one character but two bytes (c3 a9).")
}

#[test]
fn takes_bytes_that_are_not_text() -> Check {
    let server = Server::start("stage05")?;
    let request = server.request("GET", "/user-agent").header(b"User-Agent: caf\xe9/1.0");
    request.send().no_server_error().because(
        "A value is bytes, and nothing says that they are UTF-8: e9 is the \"é\" of older programs. \
         Send it back as it came, or refuse it with 400, but answer.",
    )?;
    server.get("/").status(200).because("The request before had a strange header.")
}

#[test]
fn goes_on_without_the_header() -> Check {
    let server = Server::start("stage05")?;
    server.get("/user-agent").no_server_error().because(
        "Headers are optional: without User-Agent, an empty body with 200 will do, or a 400.",
    )?;
    server.get("/").status(200).because("The request before this one had no User-Agent.")
}
