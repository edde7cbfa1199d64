//! Stage 6 · Serve many clients at once.
//!
//! The requests and answers are those of the stages before. What is new: slow or silent clients must not delay
//! others.

use harness::{Check, Server};

/// More clients than an ordinary thread pool has threads.
const MANY: usize = 100;

#[test]
fn silent_clients_do_not_delay_others() -> Check {
    let server = Server::start("stage06")?;
    let _silent = (0..MANY).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "100 clients are connected and send nothing. (Browsers do this: they open connections before they \
               need them.) While your server waits for these clients, it must still answer the next one.";
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
    let why = "100 clients have sent half of a request. While your server waits for the other halves, it must \
               still answer the next client.";
    server.get("/echo/hello").status(200).body("hello").because(why)
}

#[test]
fn answers_in_any_order() -> Check {
    let server = Server::start("stage06")?;
    let mut clients = (0..MANY / 2).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "50 clients are connected, and the client that connected last sends its request first. Answer \
               each request as soon as it arrives, whatever the order of the connections.";
    while let Some(mut client) = clients.pop() {
        client.send(b"GET /user-agent HTTP/1.1\r\nHost: localhost\r\nUser-Agent: me\r\n\r\n")?;
        server.answer(&mut client).status(200).body("me").because(why)?;
    }
    Ok(())
}

#[test]
fn everyone_gets_their_own_answer() -> Check {
    let server = Server::start("stage06")?;
    let why = "100 clients send their requests at the same time, and each of them must get the answer to its \
               own request. Do not keep one client's data in a variable that another client's request changes.";
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
