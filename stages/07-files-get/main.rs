//! Stage 7: send files, and only the right ones. Chapter: docs/07-files-get.md

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::process::ExitCode;

use common::{Request, Response, Rest};

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let directory = args.directory.clone();
        common::serve(args.listen()?, move |client| {
            common::answer(client, |request| route(request, directory.as_deref()));
        })
    })
}

fn route(request: &Request, directory: Option<&Path>) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => Response::text(text.decode()?),
        ("user-agent", None) => Response::text(request.header("User-Agent").unwrap_or_default()),
        ("files", Some(name)) => open(directory, name).and_then(Response::file)?,
        _ => Response::not_found(),
    })
}

/// Opens the file called `name`, if it is a file inside `directory`.
fn open(directory: Option<&Path>, name: Rest) -> io::Result<File> {
    let directory = directory.ok_or(ErrorKind::NotFound)?;
    let name = name.file_name()?;
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(ErrorKind::NotFound.into()); // it contains `..`, or begins with `/`
    }
    // Where the name leads when every symbolic link on the way is followed.
    let path = directory.join(name).canonicalize().map_err(|_| ErrorKind::NotFound)?;
    if !path.starts_with(directory) || !path.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    File::open(path)
}
