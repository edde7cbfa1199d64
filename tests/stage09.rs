//! Stage 9 · Compress the body when the client asks for it.
//!
//! A client lists in `Accept-Encoding` the formats that it can decompress. If gzip is among them, the answer to
//! `/echo/{text}` has the header `Content-Encoding: gzip` and a compressed body.

use harness::{Check, Exchange, Server};

const TEXT: &str = "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc";

/// Asks for the text with this `Accept-Encoding`.
fn ask(server: &Server, accept: &str) -> Exchange {
    let request = server.request("GET", &format!("/echo/{TEXT}"));
    request.header(format!("Accept-Encoding: {accept}")).send().status(200)
}

#[test]
fn compresses_when_asked() -> Check {
    let server = Server::start("stage09")?;
    ask(&server, "gzip").header("Content-Type", "text/plain").gzip_body(TEXT).because(
        "The client accepts gzip. Compress the body, and say so with Content-Encoding: gzip.",
    )
}

#[test]
fn does_not_compress_otherwise() -> Check {
    let server = Server::start("stage09")?;
    let why = "This client did not ask for gzip, so it may not be able to decompress the body. Send the text as \
               it is.";
    server
        .get(&format!("/echo/{TEXT}"))
        .status(200)
        .no_header("Content-Encoding")
        .body(TEXT)
        .because(why)?;
    ask(&server, "br").no_header("Content-Encoding").body(TEXT).because(why)
}

#[test]
fn finds_gzip_in_a_list() -> Check {
    let server = Server::start("stage09")?;
    for accept in [
        "br, gzip, deflate",
        "br,gzip",
        "deflate, gzip;q=0.5",
        "br ,\tGZip",
        "*",
        "br\r\nAccept-Encoding: gzip", // on two lines
    ] {
        ask(&server, accept).gzip_body(TEXT).because(
            "This client accepts gzip. Accept-Encoding is a list with commas, in upper or lower case, on one \
             line or several. A name may have a weight after a semicolon. A * stands for all codings that are \
             not named (RFC 9110, sections 5.3 and 12.5.3).",
        )?;
    }
    Ok(())
}

#[test]
fn respects_a_weight_of_zero() -> Check {
    let server = Server::start("stage09")?;
    for accept in ["gzip;q=0", "br, gzip; q=0.0", "gzip;q=0, *", "*;q=0"] {
        ask(&server, accept)
            .no_header("Content-Encoding")
            .body(TEXT)
            .because("A weight of 0 means that the client does not accept gzip (RFC 9110, section 12.4.2). Send \
                      the text as it is.")?;
    }
    Ok(())
}

#[test]
fn a_name_that_merely_contains_gzip_does_not_count() -> Check {
    let server = Server::start("stage09")?;
    for accept in ["not-gzip", "gzipped", "br, xgzip"] {
        ask(&server, accept).no_header("Content-Encoding").body(TEXT).because(
            "This list has no element gzip, so do not compress. Compare whole elements: if you search the value \
             for \"gzip\", you find it inside other names.",
        )?;
    }
    Ok(())
}

#[test]
fn tells_caches_what_the_answer_depends_on() -> Check {
    let server = Server::start("stage09")?;
    for accept in ["gzip", "identity"] {
        ask(&server, accept).header("Vary", "Accept-Encoding").because(
            "A cache between client and server stores answers by their URL. Vary tells the cache that this \
             answer also depends on Accept-Encoding. Without Vary, a client may get a compressed answer that it \
             cannot read.",
        )?;
    }
    Ok(())
}
