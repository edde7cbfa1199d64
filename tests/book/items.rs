//! Quoted code: items of files, and the differences of an item between two files.

use std::fs;

use harness::repository;

use crate::Block;

/// Says what is wrong with a block of code, if anything is.
pub fn check(block: &Block) -> Result<(), String> {
    let words: Vec<_> = block.words.iter().map(String::as_str).collect();
    match words[..] {
        ["rust", "naive"] => Ok(()),
        ["rust", file, "…"] => check_lines(file, &block.body),
        ["rust", file, name] if item(file, name)? == block.body => Ok(()),
        ["diff", from, to, name] => check_difference(block, &item(from, name)?, &item(to, name)?),
        ["rust", file, name] => Err(format!("this is not the item {name} of {file}")),
        _ => Err(format!("unknown kind of block: {}", block.info())),
    }
}

/// What a block that is out of date should contain, if it can be rewritten.
pub fn rewrite(block: &Block) -> Option<String> {
    let words: Vec<_> = block.words.iter().map(String::as_str).collect();
    match words[..] {
        ["rust", file, name] if name != "…" => item(file, name).ok(),
        ["diff", from, to, name] => {
            Some(difference(&item(from, name).ok()?, &item(to, name).ok()?))
        }
        _ => None,
    }
}

/// The file must contain the lines, one after another, with any indentation.
fn check_lines(file: &str, body: &str) -> Result<(), String> {
    let code = read(file)?;
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let wanted: Vec<_> = body.lines().map(str::trim).collect();
    if lines.windows(wanted.len()).any(|window| window == wanted) {
        Ok(())
    } else {
        Err(format!("{file} does not contain these lines"))
    }
}

/// A difference without its `+` lines must be the old item, and without its `-` lines the new item.
fn check_difference(block: &Block, old: &str, new: &str) -> Result<(), String> {
    let side = |dropped: char| {
        let lines = block.body.lines().filter(|line| !line.starts_with(dropped));
        lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect::<String>()
    };
    if side('+') != old {
        Err("without its + lines, this is not the old code".to_owned())
    } else if side('-') != new {
        Err("without its - lines, this is not the new code".to_owned())
    } else {
        Ok(())
    }
}

fn difference(old: &str, new: &str) -> String {
    let lines = diff::lines(old.trim_end(), new.trim_end());
    lines
        .iter()
        .map(|line| match line {
            diff::Result::Left(line) => format!("-{line}\n"),
            diff::Result::Right(line) => format!("+{line}\n"),
            diff::Result::Both("", _) => "\n".to_owned(),
            diff::Result::Both(line, _) => format!(" {line}\n"),
        })
        .collect()
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(repository().join(file)).map_err(|error| format!("{file}: {error}"))
}

/// An item of a file: a function, a constant or a type with the comment above it, without its indentation. The name
/// `*` means the whole file.
fn item(file: &str, name: &str) -> Result<String, String> {
    let code = read(file)?;
    if name == "*" {
        return Ok(code);
    }
    let lines: Vec<_> = code.lines().collect();
    let starts = |line: &str| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let words = ["fn", "const fn", "const", "struct", "enum"];
        let names = words.iter().filter_map(|word| line.strip_prefix(word)?.strip_prefix(' '));
        names.into_iter().any(|rest| {
            rest.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(|c: char| !c.is_alphanumeric() && c != '_'))
        })
    };
    let found = lines.iter().position(|line| starts(line));
    let found = found.ok_or_else(|| format!("{file} has no item called {name}"))?;
    let indent = lines[found].len() - lines[found].trim_start().len();
    let above = lines[..found].iter().rev();
    let comment = above.take_while(|line| line.trim_start().starts_with(['/', '#'])).count();
    let end = end_of(&lines[found..], indent) + found;
    let item = lines[found - comment..=end].iter().map(|line| line.get(indent..).unwrap_or(""));
    Ok(item.map(|line| format!("{line}\n")).collect())
}

/// The index of the line that ends an item: a closing brace in the column of the item, or a semicolon.
fn end_of(lines: &[&str], indent: usize) -> usize {
    let closes = |line: &&str| {
        let rest = line.get(indent..).unwrap_or_default();
        rest == "}" || rest == "};" || rest.starts_with(')') && rest.ends_with(';')
    };
    if lines[0].trim_end().ends_with(';') || lines[0].trim_end().ends_with("; // bytes: 8 GiB") {
        return 0;
    }
    lines.iter().position(closes).unwrap_or(lines.len() - 1)
}
