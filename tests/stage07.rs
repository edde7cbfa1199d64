//! Stage 7 · `GET /files/{name}` answers with a file.
//!
//! The server is started with `--directory DIR`. It sends the file `name` from that directory, byte for byte,
//! as `application/octet-stream`. If there is no such file, the answer is 404. No name leads to a file outside
//! of the directory, however it is written.

use std::fs;
use std::io;

use harness::{Check, Failure, Server};

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Writes a file into the server's directory.
fn write(server: &Server, name: &str, content: impl AsRef<[u8]>) -> Check {
    fs::write(server.directory().join(name), content).map_err(cannot)
}

#[test]
fn sends_a_file() -> Check {
    let server = Server::start_with_directory("stage07")?;
    write(&server, "hello.txt", "Hello, World!")?;
    server
        .get("/files/hello.txt")
        .status(200)
        .header("Content-Type", "application/octet-stream")
        .framed()
        .body("Hello, World!")
        .because(
            "The file hello.txt is in the directory that your server got with --directory. The body must be the \
             content of that file.",
        )
}

#[test]
fn sends_every_byte_as_it_is() -> Check {
    let server = Server::start_with_directory("stage07")?;
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    write(&server, "all.bin", &bytes)?;
    write(&server, "empty", "")?;
    let why = "A file is bytes, not text. If you read this file into a String, reading fails or the bytes \
               change.";
    server.get("/files/all.bin").status(200).body(&bytes).because(why)?;
    server
        .get("/files/empty")
        .status(200)
        .body("")
        .because("An empty file is a file, too. Answer 200 with an empty body.")
}

#[test]
fn sends_a_large_file_without_loading_it() -> Check {
    const LENGTH: u64 = 256 << 20;
    let server = Server::start_with_directory("stage07")?;
    let file = fs::File::create(server.directory().join("large")).map_err(cannot)?;
    file.set_len(LENGTH).map_err(cannot)?; // all of it is zeros, and takes no room on the disk
    let why = "The file has 256 MiB. Send it block by block: a server that loads whole files runs out of memory \
               as soon as a few clients ask for large ones.";
    let mut client = server.connect()?;
    client.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let received = client.count_to_the_end().map_err(|failure| server.finish(failure.why(why)))?;
    if received < LENGTH {
        let problem = format!("your server sent {received} bytes of a file of {LENGTH}");
        return Err(Failure::new(problem).why(why).read(server.chapter()));
    }
    #[cfg(target_os = "linux")]
    {
        let used = server.peak_memory_of_all() / 1024;
        if used > 230 {
            let problem = format!("your server used {used} MB of memory to send a file of 268 MB");
            return Err(Failure::new(problem).why(why).read(server.chapter()));
        }
    }
    Ok(())
}

#[test]
fn finds_files_by_their_decoded_names() -> Check {
    let server = Server::start_with_directory("stage07")?;
    write(&server, "two words.txt", "space")?;
    write(&server, "café", "accent")?;
    let why = "Decode the path first, then look up the file.";
    server.get("/files/two%20words.txt").status(200).body("space").because(why)?;
    server.get("/files/caf%C3%A9").status(200).body("accent").because(why)
}

#[test]
fn answers_404_without_a_file() -> Check {
    let server = Server::start_with_directory("stage07")?;
    fs::create_dir(server.directory().join("folder")).map_err(cannot)?;
    let why = "There is no file with this name. Answer 404.";
    server.get("/files/missing").status(404).because(why)?;
    for path in ["/files/folder", "/files/folder/", "/files/", "/files/%00"] {
        server.get(path).refused().because(why)?;
    }
    drop(server); // both servers may have to use the same port
    let without_directory = Server::start("stage07")?;
    without_directory
        .get("/files/missing")
        .status(404)
        .because("Your server was started without --directory, so it has no files. Answer 404.")
}

#[test]
fn no_name_leads_out_of_the_directory() -> Check {
    let server = Server::start_with_directory("stage07")?;
    let secret = server.directory().with_file_name("secret");
    fs::write(&secret, "a secret").map_err(cannot)?;
    write(&server, "inside", "no secret")?;
    // A directory whose name begins like that of the server's directory.
    let neighbour = server.directory().with_file_name("shared-not");
    fs::create_dir(&neighbour).map_err(cannot)?;
    fs::write(neighbour.join("secret"), "a secret").map_err(cannot)?;
    let absolute = secret.to_string_lossy().replace('\\', "/");
    for path in [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/%2e%2e%2fsecret",
        "/files/..%5csecret",
        "/files/inside/../../secret",
        "/files/../shared-not/secret",
        &format!("/files/{absolute}"),
        &format!("/files/{}", absolute.replace('/', "%2F")),
    ] {
        server.get(path).refused().because(
            "This name leads out of the directory, so refuse it. Otherwise, any client can read any file on \
             this machine. Joining the directory and the name is not enough: \"..\" goes up, and an absolute \
             name replaces the directory.",
        )?;
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn no_link_leads_out_of_the_directory() -> Check {
    let server = Server::start_with_directory("stage07")?;
    let private = server.directory().with_file_name("private");
    fs::create_dir(&private).map_err(cannot)?;
    fs::write(private.join("secret"), "a secret").map_err(cannot)?;
    let link = |to, name| std::os::unix::fs::symlink(to, server.directory().join(name));
    link("../private/secret", "file").map_err(cannot)?;
    link("../private", "folder").map_err(cannot)?;
    let why = "a symbolic link that leads out of the directory, so refuse it. Resolve the path first (in Rust: \
               canonicalize), then check that the result is still inside.";
    server.get("/files/file").refused().because(&format!("\"file\" is {why}"))?;
    server.get("/files/folder/secret").refused().because(&format!("\"folder\" is {why}"))
}
