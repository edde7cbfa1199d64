//! Stage 17 · A router: patterns of paths, and what they stand for.
//!
//! `/user/:id` is a pattern: `:id` stands for any text between two slashes. The router finds the pattern that fits a
//! path, calls its function with what the parameters stand for, and answers by itself when no pattern fits.

use harness::{Check, Failure, Server, json};

#[test]
fn parameters_are_parts_of_the_path() -> Check {
    let server = Server::start("stage17")?;
    let why = "The pattern is /user/:id. The parameter is what stands between the slashes, decoded, and the answer is \
               JSON: quotes and backslashes in a text are escaped there.";
    for (path, id) in [
        ("/user/10", "10"),
        ("/user/007", "007"),
        ("/user/-", "-"),
        ("/user/anna-maria", "anna-maria"),
        ("/user/caf%C3%A9", "café"),
        ("/user/caf%25C3", "caf%C3"),
        ("/user/a+b", "a+b"),
        ("/user/two%20words", "two words"),
        ("/user/10?x=/1", "10"),
        ("/user/a%22b%5Cc", "a\"b\\c"),
        ("/user/a%0Ab%09%01", "a\nb\t\u{1}"),
    ] {
        server.get(path).status(200).json(&json!({ "user_id": id })).because(why)?;
    }
    server.get("/user/10%2F11").status(200).json(&json!({ "user_id": "10/11" })).because(
        "%2F is a slash that belongs to the parameter. Split the path at its slashes first, and decode each part \
         after that, once.",
    )?;
    server
        .get("/user/10/posts/7")
        .status(200)
        .json(&json!({ "user_id": "10", "post_id": "7" }))
        .because("The pattern is /user/:id/posts/:post: a pattern may have several parameters.")?;
    for path in ["/user/", "/user/10/11", "/user/10/posts", "/user//posts/7", "/users/10"] {
        server.get(path).status(404).because(
            "No pattern fits: each part of a pattern stands for exactly one part of the path, and a parameter for at \
             least one character.",
        )?;
    }
    Ok(())
}

#[test]
fn the_query_has_names_and_values() -> Check {
    let server = Server::start("stage17")?;
    let why = "The query is made of names and values: name=value&name=value. Split it first, and decode the parts \
               after that. A plus is a space there, and %2B is a plus.";
    for (query, message) in [
        ("message=hello", "hello"),
        ("message=two+words", "two words"),
        ("message=two%20words", "two words"),
        ("message=1%2B1%3D2%26", "1+1=2&"),
        ("message=a=b", "a=b"),
        ("message=caf%C3%A9", "café"),
        ("message=%2541", "%41"),
        ("x=1&message=hello&y=2", "hello"),
        ("xmessage=no&messages=no&message=yes", "yes"),
        ("mess%61ge=hello", "hello"),
        ("message=what?", "what?"),
        ("message=a/b", "a/b"),
        ("message=", ""),
        ("message", ""),
    ] {
        let answer = server.get(&format!("/echo?{query}")).status(200);
        answer.body(format!("Echo: {message}")).because(why)?;
    }
    let answer = server.get("/echo?message=first&message=second").status(200).body("Echo: first");
    answer.because("A name may come several times. The first value counts here.")?;
    for query in ["", "?", "?x=1", "?Message=hello", "?xmessage=hello", "?x=message"] {
        let answer = server.get(&format!("/echo{query}")).status(400);
        answer.because("There is no message. (An empty one would be something else: message=)")?;
    }
    for query in ["message=100%", "message=%zz", "message=%ff", "message=%", "&&=&message=a"] {
        let answer = server.get(&format!("/echo?{query}")).no_server_error();
        answer.because(
            "A query may be anything. Whatever you make of it, it is not your server's error.",
        )?;
    }
    for (query, message) in [("message=%2bc%+F", "+c% F"), ("message=%-1", "%-1")] {
        let answer = server.get(&format!("/echo?{query}")).status_in(&[200, 400]);
        let answer = answer.expect("what is no escape as it is", |answer| {
            let expected = format!("Echo: {message}");
            match answer.status == 400 || answer.body == expected.as_bytes() {
                true => Ok(()),
                false => Err(Failure::new("a sign was taken for a hexadecimal digit")),
            }
        });
        answer.because(
            "After a % come two hexadecimal digits. Functions that read numbers also take signs: look at the digits \
             yourself.",
        )?;
    }
    server.get("/echo/hello?message=no").status(200).body("hello").because(
        "/echo/hello is the path of stage 4, whatever its query is. /echo is another path.",
    )
}

#[test]
fn the_more_exact_pattern_answers() -> Check {
    let server = Server::start("stage17")?;
    server.get("/user/me").status(200).body("that is you").because(
        "Both /user/me and /user/:id fit. A text is more exact than a parameter, in whatever order they were added.",
    )?;
    server
        .get("/user/me/settings")
        .status(200)
        .body("your settings")
        .because("/user/me/settings is a route of its own.")?;
    server
        .get("/user/me/posts/7")
        .status(200)
        .json(&json!({ "user_id": "me", "post_id": "7" }))
        .because(
            "\"me\" is also a text between two slashes. No pattern that begins with /user/me goes on with \"posts\", so \
             go back, and try /user/:id/posts/:post.",
        )?;
    server
        .get("/user/%6De")
        .status(200)
        .body("that is you")
        .because("%6D is an m, written otherwise.")?;
    server.get("/user/10/settings").status(404).because("Only /user/me has settings.")?;
    let long = format!("/user{}", "/me".repeat(2_000));
    let answer = server.get(&long).status_in(&[404, 414]);
    answer.because("A path may have very many parts. That is no reason to crash, nor to take long.")
}

#[test]
fn a_path_knows_its_methods() -> Check {
    let server = Server::start("stage17")?;
    for path in ["/user/10", "/user/me", "/echo", "/user/10/posts/7"] {
        for method in ["POST", "DELETE"] {
            let answer = server.request(method, path).body("x").send().status(405);
            answer.allows("GET").allows("HEAD").because(
                "The path is known, and the method is not. 405 says which methods there are: all of them, and HEAD \
                 where there is GET.",
            )?;
        }
        let answer = server.request("OPTIONS", path).send().successful().allows("GET");
        answer.because("OPTIONS asks what is allowed. The router knows it.")?;
        let answer = server.request("HEAD", path).send();
        let answer = if path == "/echo" { answer.status(400) } else { answer.status(200) };
        answer.because("HEAD is answered like GET, without the body.")?;
    }
    let answer = server.request("DELETE", "/files/a").send().status(405);
    answer
        .allows("GET")
        .allows("POST")
        .because("GET and POST of /files/… are two routes. Allow has them both.")?;
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = server.request(method, "/user").body("x").send().status(404);
        answer
            .because("No pattern fits this path, whatever the method is. 404 comes before 405.")?;
    }
    Ok(())
}

#[test]
fn a_slash_at_the_end_makes_another_path() -> Check {
    let server = Server::start("stage17")?;
    let why = "/a/ is not /a. Where a route exists for the other one only, send the client there, with the same \
               query, and with the escapes as they came.";
    for (target, location) in [
        ("/user/10/", "/user/10"),
        ("/user/10/?a=b&c=%20", "/user/10?a=b&c=%20"),
        ("/user/a%2Fb%20c/", "/user/a%2Fb%20c"),
        ("/user-agent/", "/user-agent"),
        ("/user/me/", "/user/me"),
        ("/echo/?a=http://b", ""),
        ("/countdown?a", "/countdown/?a"),
    ] {
        let answer = server.get(target);
        if location.is_empty() {
            answer.status(200).body("").because("/echo/ is a path of its own, since stage 4.")?;
            continue;
        }
        answer.status_in(&[308, 301, 302, 307]).leads_to(location).because(why)?;
    }
    let answer = server.request("POST", "/user/10/").body("x").send().status_in(&[308, 307]);
    answer.leads_to("/user/10").because(
        "After 301 or 302, clients repeat a POST as a GET, without its body. 308 tells them to send the same request.",
    )?;
    for target in ["//user/10/", "/%2Fuser-agent/", "//evil.example/", "/\\evil.example/"] {
        server
            .get(target)
            .no_server_error()
            .stays_on_this_site()
            .because("A Location that begins with // names another host, as in stage 14.")?;
    }
    server.get("/missing/").status(404).because("Neither /missing nor /missing/ has a route.")
}

#[test]
fn what_cannot_be_decoded_is_refused() -> Check {
    let server = Server::start("stage17")?;
    for path in ["/user/%", "/user/%4", "/user/%zz", "/user/10/posts/%zz", "/%zz/10"] {
        let answer = server.get(path).status(400);
        answer.because(
            "After a % come two hexadecimal digits. The client has made a mistake: 400.",
        )?;
    }
    for path in ["/user/%ff", "/user/%C3", "/user/10/posts/%80"] {
        let answer = server.get(path).status_in(&[400, 404]);
        answer.because(
            "These escapes are right, but their bytes are not UTF-8, so they are no text.",
        )?;
    }
    server.get("/user/10").status(200).because("The server goes on.")
}
