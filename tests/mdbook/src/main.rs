//! `cargo book`: makes a web site of the chapters in `target/book`, together with the code that they link to.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use mdbook::MDBook;

/// The folders that chapters link to.
const LINKED: [&str; 4] = ["stages", "common", "tests", "fuzz"];

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = here.ancestors().nth(2).unwrap_or(here);
    match make(repository) {
        Ok(()) => {
            println!("The course is in target/book. To read it, run");
            println!("    cargo run --bin stage16 -- --site target/book --list");
            println!("and open http://127.0.0.1:4221/");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn make(repository: &Path) -> Result<(), String> {
    let site = repository.join("target/book");
    let mut book = MDBook::load(repository.join("docs")).map_err(|error| format!("{error:#}"))?;
    book.config.build.build_dir.clone_from(&site);
    book.build().map_err(|error| format!("{error:#}"))?;
    for folder in LINKED {
        copy(&repository.join(folder), &site.join(folder))
            .map_err(|error| format!("{folder} cannot be copied: {error}"))?;
    }
    Ok(())
}

/// Copies the source files of a folder, and of the folders in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let is_hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !is_hidden && name != "target" && name != "mine" {
            copy(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|it| it == "rs" || it == "toml" || it == "md") {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
