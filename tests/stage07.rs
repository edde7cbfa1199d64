//! Stage 7 · `GET /files/{name}` answers with a file.
//!
//! The server is started with `--directory DIR`. It sends the file `name` of that directory,
//! byte for byte, as `application/octet-stream`; 404 if there is none. No name, however written,
//! leads to a file outside.

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
            "The file hello.txt is in the directory that the server got with --directory. The body \
             is what the file contains.",
        )
}

#[test]
fn sends_every_byte_as_it_is() -> Check {
    let server = Server::start_with_directory("stage07")?;
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    write(&server, "all.bin", &bytes)?;
    write(&server, "empty", "")?;
    let why = "A file is bytes, not text: read as a String it fails or changes.";
    server.get("/files/all.bin").status(200).body(&bytes).because(why)?;
    server.get("/files/empty").status(200).body("").because("An empty file is a file.")
}

#[test]
fn finds_files_by_their_decoded_names() -> Check {
    let server = Server::start_with_directory("stage07")?;
    write(&server, "two words.txt", "space")?;
    write(&server, "café", "accent")?;
    let why = "The path is decoded first, then looked up.";
    server.get("/files/two%20words.txt").status(200).body("space").because(why)?;
    server.get("/files/caf%C3%A9").status(200).body("accent").because(why)
}

#[test]
fn answers_404_without_a_file() -> Check {
    let server = Server::start_with_directory("stage07")?;
    fs::create_dir(server.directory().join("folder")).map_err(cannot)?;
    let why = "There is no file of that name: 404 says so.";
    server.get("/files/missing").status(404).because(why)?;
    for path in ["/files/folder", "/files/folder/", "/files/", "/files/%00"] {
        server.get(path).refused().because(why)?;
    }
    drop(server); // there may be one port for all
    let without_directory = Server::start("stage07")?;
    without_directory
        .get("/files/missing")
        .status(404)
        .because("The server was started without --directory, so it has no files.")
}

#[test]
fn no_name_leads_out_of_the_directory() -> Check {
    let server = Server::start_with_directory("stage07")?;
    let secret = server.directory().with_file_name("secret");
    fs::write(&secret, "a secret").map_err(cannot)?;
    write(&server, "inside", "no secret")?;
    // A directory whose name begins like the server's.
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
            "Joining the directory and a name is not enough: \"..\" goes up, and an absolute name \
             replaces the directory. Anyone could read any file of this machine.",
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
    let why = "a symbolic link that leads out of the directory. Resolve the path first (in Rust: \
               canonicalize), then see whether it is still inside.";
    server.get("/files/file").refused().because(&format!("\"file\" is {why}"))?;
    server.get("/files/folder/secret").refused().because(&format!("\"folder\" is {why}"))
}
