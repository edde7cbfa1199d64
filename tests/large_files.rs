//! Files larger than memory: a server must send and store them piece by piece.

#![cfg(target_os = "linux")] // which shows in a file how much memory a process uses

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;

use harness::{Check, Failure, Server};

/// The size of the file that is sent. It is sparse, and takes no space on the disk.
const SENT: u64 = 1 << 30;

/// The size of the file that is stored. It takes this much space on the disk.
const STORED: u64 = 1 << 27;

/// The limit for the peak memory of a server, in KiB.
const LIMIT: u64 = 20_000;

fn unexpected(error: io::Error) -> Failure {
    Failure::new(format!("this test cannot continue: {error}"))
}

fn expect_little_memory(server: &Server) -> Check {
    let peak = server.peak_memory()?;
    println!("the server used at most {peak} KiB");
    if peak < LIMIT {
        return Ok(());
    }
    Err(Failure::new(format!("the server used {peak} KiB of memory, more than {LIMIT}")))
}

#[test]
fn a_gibibyte_is_sent_with_little_memory() -> Check {
    for stage in ["stage07", "stage09"] {
        // by hand, and from common
        let server = Server::start_own(stage)?;
        let file = File::create(server.directory().join("large")).map_err(unexpected)?;
        file.set_len(SENT).map_err(unexpected)?;
        server.connect()?; // wait until the server listens
        let mut client = TcpStream::connect(("127.0.0.1", server.port())).map_err(unexpected)?;
        client.write_all(b"GET /files/large HTTP/1.1\r\n\r\n").map_err(unexpected)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).map_err(unexpected)?;
            head.extend_from_slice(&byte);
        }
        let received = io::copy(&mut client, &mut io::sink()).map_err(unexpected)?;
        assert_eq!(received, SENT, "{stage}");
        expect_little_memory(&server)?;
    }
    Ok(())
}

#[test]
fn a_large_file_is_stored_with_little_memory() -> Check {
    for stage in ["stage08", "stage09"] {
        let server = Server::start_own(stage)?;
        server.connect()?; // wait until the server listens
        let mut client = TcpStream::connect(("127.0.0.1", server.port())).map_err(unexpected)?;
        let head = format!("POST /files/large HTTP/1.1\r\nContent-Length: {STORED}\r\n\r\n");
        client.write_all(head.as_bytes()).map_err(unexpected)?;
        io::copy(&mut io::repeat(b'x').take(STORED), &mut client).map_err(unexpected)?;
        let answer = io::read_to_string(&mut client).map_err(unexpected)?;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{stage}: {answer}");
        let stored = fs::metadata(server.directory().join("large")).map_err(unexpected)?;
        assert_eq!(stored.len(), STORED, "{stage}");
        expect_little_memory(&server)?;
    }
    Ok(())
}
