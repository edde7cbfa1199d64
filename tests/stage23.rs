//! Stage 23 · TLS: nobody on the way can read what is said, or change it.
//!
//! Inside TLS, a server is what it was before. These checks are about what is new: the agreement at the beginning, the
//! goodbye at the end, records in between, and those who come without TLS.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use harness::{Check, Connection, Failure, Server, TIMEOUT, free_port};
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use secure::{Client, Identity};

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Starts the server with a certificate for these names, and with these options.
fn start(names: &[&str], more: &[&str]) -> Result<(Server, Identity), Failure> {
    let identity = Identity::for_names(names).map_err(cannot)?;
    let args = identity.args();
    let args: Vec<_> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Ok((Server::start_with_args("stage23", &args)?, identity))
}

fn failed(server: &Server, problem: impl Into<String>, why: &str) -> Failure {
    server.finish(Failure::new(problem).why(why).read(server.chapter()))
}

/// Asks for `/echo/inside`, and expects that.
fn ask(server: &Server, connection: &mut Connection, why: &str) -> Check {
    connection.send(b"GET /echo/inside HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    server.answer(connection).status(200).body("inside").because(why)
}

#[test]
fn answers_over_tls() -> Check {
    let (server, identity) = start(&["localhost"], &[])?;
    let why = "Your server was started with --cert and --key. It shows this certificate to each client, and proves with \
               the key that it is its own. What follows is the same conversation as before, in secret.";
    for (version, number) in
        [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)]
    {
        let client = Client::speaking(&identity, &[version], &[]);
        let mut secured = client.connect(&server).map_err(|failure| failure.why(why))?;
        if secured.version != Some(number) {
            let problem = format!("the version is {:?}, not {number:?}", secured.version);
            return Err(failed(&server, problem, why));
        }
        for _ in 0..2 {
            ask(&server, &mut secured.connection, why)?;
        }
        let request = b"GET https://localhost/echo/inside HTTP/1.1\r\nHost: localhost\r\n\r\n";
        secured.connection.send(request)?;
        let why = "A target may also be a URL, and here it begins with https://.";
        server.answer(&mut secured.connection).status(200).body("inside").because(why)?;
    }
    Ok(())
}

#[test]
fn agrees_on_the_protocol_inside() -> Check {
    let (server, identity) = start(&["localhost"], &[])?;
    let both = [&TLS13, &TLS12];
    let why = "In its first message, a client says which protocols it can speak inside (ALPN): browsers say h2 and \
               http/1.1. Your server chooses http/1.1.";
    let client = Client::speaking(&identity, &both, &["h2", "http/1.1"]);
    let mut secured = client.connect(&server).map_err(|failure| failure.why(why))?;
    if secured.protocol.as_deref() != Some(b"http/1.1") {
        let chosen = secured.protocol.map(|name| String::from_utf8_lossy(&name).into_owned());
        let chosen = chosen.unwrap_or_else(|| "nothing".to_owned());
        return Err(failed(&server, format!("your server chooses {chosen}, not http/1.1"), why));
    }
    ask(&server, &mut secured.connection, why)?;
    let why = "This client speaks nothing but h2 inside. Your server does not, and refuses the handshake: otherwise the \
               client would send something that cannot be understood.";
    match Client::speaking(&identity, &both, &["h2"]).connect(&server) {
        Err(_) => Ok(()),
        Ok(_) => Err(failed(&server, "your server agrees with a client that speaks only h2", why)),
    }
}

#[test]
fn carries_all_that_is_said() -> Check {
    let (server, identity) = start(&["localhost"], &[])?;
    let client = Client::trusting(&identity);
    let why = "A client has sent twenty requests, each in a record of its own, and all of them arrive at once. One read of \
               the socket may bring several records. Give out all that they say before you wait for the next.";
    let request = &b"GET /echo/inside HTTP/1.1\r\nHost: localhost\r\n\r\n"[..];
    let mut secured = client.connect_with(&server, &[request; 20])?;
    secured.connection.expect_answers(20);
    for _ in 0..20 {
        server.answer(&mut secured.connection).status(200).body("inside").because(why)?;
    }
    let why = "A body of 3 MB is some two hundred records. Each may arrive in pieces.";
    let content: Vec<u8> = (0..750_000u32).flat_map(u32::to_le_bytes).collect();
    let head = format!(
        "POST /files/large HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    secured.connection.send(&[head.as_bytes(), &content].concat())?;
    server.answer(&mut secured.connection).status(201).because(why)?;
    if fs::read(server.directory().join("large")).unwrap_or_default() != content {
        return Err(failed(&server, "the file is not what was sent", why));
    }
    let why = "A client asks for a file of 16 MB, and reads nothing for a while. What has been encrypted and not been taken \
               yet must be sent later, all of it.";
    let content: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(server.directory().join("larger"), &content).map_err(cannot)?;
    secured.connection.send(b"GET /files/larger HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut other = client.connect(&server)?;
    for _ in 0..50 {
        ask(&server, &mut other.connection, why)?;
    }
    server.answer(&mut secured.connection).status(200).body(&content).because(why)?;
    ask(&server, &mut secured.connection, why)
}

#[test]
fn says_goodbye() -> Check {
    let (server, identity) = start(&["localhost"], &[])?;
    let client = Client::trusting(&identity);
    let why = "Anybody on the way can end a TCP connection. So the one who has said all says so inside TLS, with a \
               close_notify, before it closes: then the other side knows that nothing is cut off.";
    let requests = [
        "GET /echo/inside HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /echo/inside HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ];
    for request in requests {
        let mut secured = client.connect(&server)?;
        secured.connection.send(request.as_bytes())?;
        let mut stream = secured.connection.into_stream();
        stream.set_read_timeout(Some(TIMEOUT)).map_err(cannot)?;
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let problem = match ended {
            Ok(_) if answer.starts_with(b"HTTP/1.1 ") => continue,
            Ok(_) => "your server says goodbye without an answer",
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                "your server closes the connection without a close_notify"
            }
            Err(_) => "your server does not close the connection",
        };
        let failure = Failure::new(problem).bytes(request.as_bytes(), &answer).why(why);
        return Err(server.finish(failure.read(server.chapter())));
    }
    Ok(())
}

#[test]
fn keeps_nothing_that_is_cut_off() -> Check {
    let (server, identity) = start(&["localhost"], &[])?;
    let client = Client::trusting(&identity);
    let heads =
        ["Content-Length: 1000\r\n\r\nfirst", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"];
    for rest in heads {
        let request = format!("POST /files/half HTTP/1.1\r\nHost: localhost\r\n{rest}");
        client.connect_and_cut(&server, request.as_bytes())?;
        let why = "The connection has ended in the middle of a body, without a goodbye. It may be that somebody on the \
                   way has cut it. Your server keeps nothing of that body, and goes on.";
        let mut other = client.connect(&server).map_err(|failure| failure.why(why))?;
        ask(&server, &mut other.connection, why)?;
        if fs::read_dir(server.directory()).map_err(cannot)?.count() > 0 {
            return Err(failed(&server, "a part of a body has been stored", why));
        }
    }
    let why =
        "Some clients close without a goodbye after their last answer. Nothing is missing then.";
    for _ in 0..3 {
        client.connect_and_cut(&server, b"GET /echo/inside HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    }
    let mut other = client.connect(&server).map_err(|failure| failure.why(why))?;
    ask(&server, &mut other.connection, why)
}

#[test]
fn explains_itself_to_plain_http() -> Check {
    let (server, _identity) = start(&["localhost"], &[])?;
    let why = "A client speaks HTTP to a port that speaks TLS: somebody has written http:// and not https://. Such a request \
               begins with a letter, and TLS never does. Answer 400, without TLS, and say in the body what to do.";
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /files/a HTTP/1.0\r\n\r\n"] {
        let mut plain = server.connect()?;
        plain.send(request.as_bytes())?;
        let exchange = server.answer(&mut plain).status(400);
        let answer = exchange.answer_because(why)?;
        if !String::from_utf8_lossy(&answer.body).contains("https") {
            let failure = Failure::new("the body does not say that the address begins with https");
            let failure = failure.bytes(request.as_bytes(), &answer.raw).why(why);
            return Err(server.finish(failure.read(server.chapter())));
        }
    }
    Ok(())
}

#[test]
fn who_does_not_agree_delays_nobody() -> Check {
    let (server, identity) = start(&["localhost"], &["--head-timeout", "20"])?;
    let client = Client::trusting(&identity);
    let _waiting = begin_to_agree(&server, &client)?;
    let why = "One client has sent half of its first message, and another one nothing. The next ones are answered.";
    for _ in 0..3 {
        let mut other = client.connect(&server).map_err(|failure| failure.why(why))?;
        ask(&server, &mut other.connection, why)?;
    }
    let (server, identity) = start(&["localhost"], &["--head-timeout", "1"])?;
    let client = Client::trusting(&identity);
    let why = "Your server was started with --head-timeout 1. That is also the time for the handshake: whoever has not \
               agreed on keys by then is let go, so that it does not keep a place from others.";
    for waiting in begin_to_agree(&server, &client)? {
        // The bytes of a handshake would tell nobody anything.
        let problem =
            "your server does not close the connection, on which it waits for a handshake";
        waiting.expect_close(TIMEOUT).map_err(|_| failed(&server, problem, why))?;
    }
    let why = "What is no TLS ends its own connection, and no other.";
    let mut other = client.connect(&server).map_err(|failure| failure.why(why))?;
    let mut nonsense = server.connect()?;
    nonsense.send(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5])?;
    nonsense.expect_close(TIMEOUT).map_err(|failure| server.finish(failure.why(why)))?;
    ask(&server, &mut other.connection, why)
}

/// A client that has sent half of its first message, and one that has sent nothing.
fn begin_to_agree(server: &Server, client: &Client) -> Result<[Connection; 2], Failure> {
    let (mut half, silent) = (server.connect()?, server.connect()?);
    let hello = client.hello();
    half.send(&hello[..hello.len() / 2])?;
    Ok([half, silent])
}

#[test]
fn keeps_clients_on_tls() -> Check {
    let identity =
        Identity::for_names(&["localhost", "example.org", "127.0.0.1"]).map_err(cannot)?;
    let port = free_port().to_string();
    let args = identity.args();
    let mut args: Vec<_> = args.iter().map(String::as_str).collect();
    args.extend(["--http-port", &port, "--host", "example.org"]);
    let challenge = (".well-known/acme-challenge/token", &b"proof"[..]);
    let server = Server::start_with_site("stage23", &args, &[challenge])?;
    let client = Client::trusting(&identity);
    let why = "Your server was started with --cert and --key. For a browser that has come to a name with TLS, it adds \
               Strict-Transport-Security: max-age=…, so that the browser does not come without TLS next time.";
    let mut secured = client.connect(&server).map_err(|failure| failure.why(why))?;
    secured.connection.send(b"GET /echo/a HTTP/1.1\r\nHost: example.org\r\n\r\n")?;
    let exchange = server.answer(&mut secured.connection).status(200);
    let answer = exchange.with("Strict-Transport-Security").answer_because(why)?;
    if !answer.header("Strict-Transport-Security").unwrap_or_default().contains("max-age=") {
        return Err(failed(&server, "Strict-Transport-Security has no max-age", why));
    }
    let why = "Every program on this machine shares the name localhost, and addresses change their owners. A browser \
               would refuse to talk to the next one without TLS.";
    for host in ["localhost", "127.0.0.1:4221"] {
        let request = format!("GET /echo/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
        secured.connection.send(request.as_bytes())?;
        let exchange = server.answer(&mut secured.connection).status(200);
        exchange.no_header("Strict-Transport-Security").because(why)?;
    }
    let why = "Your server was started with --http-port N --host example.org. On that port it speaks no TLS, and sends \
               everybody to https://example.org, with the same path and query. It never sends them to the Host that they \
               name: that would be a way to send people to wherever somebody else wants.";
    let number = port.parse().unwrap_or_default();
    for (line, location) in [
        ("GET /a%20b/c?d=e%26f", "https://example.org/a%20b/c?d=e%26f"),
        ("GET /", "https://example.org/"),
        ("POST /files/a", "https://example.org/files/a"),
    ] {
        let mut plain = connect_to(number)?;
        plain.send(format!("{line} HTTP/1.1\r\nHost: evil.example\r\n\r\n").as_bytes())?;
        let exchange = server.answer(&mut plain).status(308).header("Location", location);
        exchange.no_header("Strict-Transport-Security").because(why)?;
    }
    let why = "Those who give out certificates find out whether a name is yours by asking for a file there, without TLS, \
               below /.well-known/acme-challenge/. It comes from --site.";
    let mut plain = connect_to(number)?;
    plain.send(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: example.org\r\n\r\n")?;
    server.answer(&mut plain).status(200).body("proof").because(why)
}

/// Connects to another port of the server, which listens there when it listens on its own.
fn connect_to(port: u16) -> Result<Connection, Failure> {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let stream = connected.map_err(|error| {
        let failure = Failure::new(format!("nobody listens on the port of --http-port: {error}"));
        failure.why("Your server was started with --http-port N, and listens there as well.")
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(cannot)?;
    Connection::new(stream)
}
