//! Keeps the book true: its quotations are the code, its sessions show what really happens, and every link leads
//! somewhere.
//!
//! The words after the language of a fenced block say what the block is:
//!
//! | block | what is checked |
//! |---|---|
//! | `rust stages/04-echo/main.rs answer` | the block is this item of this file |
//! | `rust stages/04-echo/main.rs …` | the file contains these lines, one after another |
//! | `rust naive` | nothing: the code is in no file, and the text says why |
//! | `diff stages/03-…/main.rs stages/04-…/main.rs main` | the block is the difference between the two items |
//! | `console stage04` | its commands, run against the stage, print the lines below them. Arguments of the stage may follow |
//! | `text stage04 log` | after the commands above, the stage's log contains these lines |
//! | `text tests/reports/….txt` | the block is this file |
//!
//! In printed lines, `…` stands for anything that varies: a part of a line, or any number of lines.
//! `REWRITE=1 cargo test --test book` rewrites items and differences that are out of date.

mod blocks;
mod items;
mod links;
mod refusals;
#[cfg(unix)]
mod sessions;

use std::env;
use std::fs;
use std::path::PathBuf;

use blocks::{Block, Page};
use harness::{Stage, repository};

/// All pages of the book, and the README.
fn pages() -> Vec<Page> {
    let entries = fs::read_dir(repository().join("docs")).expect("the chapters are there");
    let paths = entries.map(|entry| entry.expect("the entry can be read").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    paths.push(repository().join("README.md"));
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// Fails with a list of all complaints, if there are any.
fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n\n"));
}

#[test]
fn quoted_code_is_the_code_it_names() {
    let mut complaints = Vec::new();
    for mut page in pages() {
        let blocks = page.blocks();
        for block in blocks.iter().filter(|block| matches!(block.language(), "rust" | "diff")) {
            let Err(complaint) = items::check(block) else { continue };
            match items::rewrite(block) {
                Some(text) if env::var_os("REWRITE").is_some() => page.replace(block, &text),
                _ => complaints.push(format!("{}:{}: {complaint}", page.name(), block.line)),
            }
        }
        page.save();
    }
    expect_none(&complaints);
}

#[cfg(unix)] // the commands are those of a Unix shell
#[test]
fn sessions_print_what_the_page_shows() {
    let complaints: Vec<_> = std::thread::scope(|scope| {
        let pages: Vec<_> =
            pages().into_iter().map(|page| scope.spawn(move || sessions::check(&page))).collect();
        pages.into_iter().flat_map(|page| page.join().expect("no session panics")).collect()
    });
    expect_none(&complaints);
}

#[test]
fn the_bytes_in_the_tables_of_refusals_provoke_them() {
    let tables = [
        ("stage11", "docs/11-refusals.md"),
        ("stage11", "docs/strict.md"),
        ("stage12", "docs/12-limits.md"),
    ];
    for (stage, chapter) in tables {
        let page = Page::read(repository().join(chapter));
        expect_none(&refusals::check(&page, stage));
    }
}

#[test]
fn quoted_reports_are_the_reports_they_name() {
    let mut complaints = Vec::new();
    for page in pages() {
        for block in page.blocks() {
            let ["text", path] = block.words.iter().map(String::as_str).collect::<Vec<_>>()[..]
            else {
                continue;
            };
            let report = fs::read_to_string(repository().join(path)).unwrap_or_default();
            if block.body.trim_end() != report.trim_end() {
                complaints.push(format!("{}:{} is not {path}", page.name(), block.line));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let complaints: Vec<_> = pages.iter().flat_map(|page| links::check(page, &pages)).collect();
    expect_none(&complaints);
}

#[test]
fn the_links_in_reports_lead_somewhere() {
    for stage in Stage::all() {
        let page = Page::read(repository().join(stage.chapter()));
        assert!(links::anchors(&page).contains(&"stuck".to_owned()), "{}", stage.chapter());
    }
}

#[test]
fn every_check_is_about_a_rule_and_every_rule_is_checked() {
    let mut complaints = Vec::new();
    for stage in Stage::all() {
        let (chapter, rules) = (stage.chapter(), stage.rules());
        for check in stage.checks() {
            let about = rules.checked.get(&check).map_or(&[][..], Vec::as_slice);
            if about.is_empty() || about.iter().any(|rule| *rule >= rules.rules.len()) {
                complaints
                    .push(format!("{chapter} does not say which of its rules {check} checks"));
            }
        }
        for (index, rule) in rules.rules.iter().enumerate() {
            if !rule.starts_with(&format!("{}. ", index + 1)) {
                complaints.push(format!("{chapter}: this rule has the wrong number: {rule}"));
            }
            if !rules.checked.values().flatten().any(|checked| *checked == index) {
                complaints.push(format!("{chapter}: no check is about {rule}"));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn the_drawing_of_the_server_grows_from_chapter_to_chapter() {
    let mut before = Vec::new();
    for stage in Stage::all() {
        let page = Page::read(repository().join(stage.chapter()));
        let heading = page.text.lines().position(|line| line == "## The server so far");
        let heading = heading.unwrap_or_else(|| panic!("{} has no drawing", page.name()));
        let blocks = page.blocks();
        let drawing = blocks
            .iter()
            .find(|block| block.line > heading)
            .expect("the drawing is below its heading");
        let (new, old): (Vec<_>, Vec<_>) =
            drawing.body.lines().partition(|line| line.ends_with("  <-- new"));
        if before.is_empty() {
            before = old.iter().map(|line| (*line).to_owned()).collect();
            continue; // in the first chapter, the whole drawing is new
        }
        assert_eq!(
            old,
            before,
            "{}: the lines that are not marked must be those of the drawing before",
            page.name()
        );
        assert!(!new.is_empty(), "{}: no line is marked as new", page.name());
        let plain = |line: &str| line.trim_end_matches("<-- new").trim_end().to_owned();
        before = drawing.body.lines().map(plain).collect();
    }
}

#[test]
fn every_block_says_what_it_is() {
    let known = ["rust", "diff", "console", "text", "python", "toml"];
    let mut complaints = Vec::new();
    for page in pages() {
        for block in page.blocks() {
            let is_known = known.contains(&block.language())
                && (!matches!(block.language(), "rust" | "diff") || block.words.len() > 1);
            if !is_known {
                complaints.push(format!("{}:{}: {}", page.name(), block.line, block.info()));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn a_chapter_has_no_more_than_two_thousand_words() {
    for page in pages() {
        let prose = page.prose();
        // Without the tables, which readers do not read from top to bottom.
        let words = prose.iter().filter(|(_, line)| !line.starts_with('|'));
        let count: usize = words.map(|(_, line)| line.split_whitespace().count()).sum();
        assert!(count <= 2000, "{} has {count} words outside of code and tables", page.name());
    }
}

#[test]
fn the_prose_does_not_shout() {
    let mut complaints = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            if line.contains('!') && !line.contains("![") && !line.contains('`') {
                complaints.push(format!("{}:{number}: {line}", page.name()));
            }
        }
    }
    expect_none(&complaints);
}
