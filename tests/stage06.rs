//! Stage 6 · Serve many clients at once.
//!
//! Nothing new to answer: the requests are those of the stages before. But now clients that are
//! slow, or silent, must not keep others waiting.

use harness::{Check, Server};

/// More than any pool of threads has that is made for a machine like this.
const MANY: usize = 100;

#[test]
fn silent_clients_do_not_delay_others() -> Check {
    let server = Server::start("stage06")?;
    let _silent = (0..MANY).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "A hundred clients are connected and say nothing, as browsers do that connect ahead of \
               need. A server that waits for a silent client must still serve the next.";
    server.get("/echo/hello").status(200).body("hello").because(why)
}

#[test]
fn slow_clients_do_not_delay_others() -> Check {
    let server = Server::start("stage06")?;
    let mut slow = Vec::new();
    for _ in 0..MANY {
        let mut client = server.connect()?;
        client.send(b"GET /echo/slow HTTP/1.1\r\nHost: loc")?;
        slow.push(client);
    }
    let why = "A hundred clients have sent half of their requests. A server that waits for the other \
               half must still serve the next client.";
    server.get("/echo/hello").status(200).body("hello").because(why)
}

#[test]
fn answers_in_any_order() -> Check {
    let server = Server::start("stage06")?;
    let mut clients = (0..MANY / 2).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "Fifty clients have connected, and the one that came last asks first. The order of \
               connections says nothing about the order of requests.";
    while let Some(mut client) = clients.pop() {
        client.send(b"GET /user-agent HTTP/1.1\r\nHost: localhost\r\nUser-Agent: me\r\n\r\n")?;
        server.answer(&mut client).status(200).body("me").because(why)?;
    }
    Ok(())
}

#[test]
fn everyone_gets_their_own_answer() -> Check {
    let server = Server::start("stage06")?;
    let why = "A hundred clients ask at the same moment, and each wants the answer to its own request. Do \
               not keep one client's data in a variable that another client's request changes.";
    let mut clients = Vec::new();
    for number in 0..MANY {
        let mut client = server.connect()?;
        client
            .send(format!("GET /echo/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        clients.push(client);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        server.answer(&mut client).status(200).body(number.to_string()).because(why)?;
    }
    Ok(())
}
