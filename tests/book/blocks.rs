//! Pages and their fenced blocks.

use std::fs;
use std::path::PathBuf;

/// A Markdown file.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
    original: String,
}

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// The words after the opening fence: a language, and then what the block is.
    pub words: Vec<String>,
    /// The lines between the fences, each with its line end.
    pub body: String,
    /// The number of the line with the opening fence.
    pub line: usize,
}

impl Block {
    pub fn language(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub fn info(&self) -> String {
        self.words.join(" ")
    }
}

impl Page {
    pub fn read(path: PathBuf) -> Page {
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { path, original: text.clone(), text }
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(info), None) => {
                    let words = info.split_whitespace().map(str::to_owned).collect();
                    open = Some(Block { words, body: String::new(), line: index + 1 });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.body.push_str(&format!("{line}\n")),
                (None, None) => {}
            }
        }
        blocks
    }

    /// The lines outside of blocks, with their line numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let lines = self.text.lines().enumerate().filter(|(_, line)| {
            let is_fence = line.starts_with("```");
            inside ^= is_fence;
            !inside && !is_fence
        });
        lines.map(|(index, line)| (index + 1, line)).collect()
    }

    /// Replaces the body of a block. (The line numbers of later blocks are wrong then.)
    pub fn replace(&mut self, block: &Block, body: &str) {
        let old = format!("```{}\n{}```", block.info(), block.body);
        let new = format!("```{}\n{body}```", block.info());
        self.text = self.text.replacen(&old, &new, 1);
    }

    pub fn save(&self) {
        if self.text != self.original {
            fs::write(&self.path, &self.text).expect("the page can be written");
        }
    }
}
