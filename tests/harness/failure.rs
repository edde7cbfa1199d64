//! The report of a failed check: what is wrong, the bytes, why it matters, where to read.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IsTerminal};

use crate::show;

/// What a check returns. A test that returns an error fails with the error's `Debug` output,
/// which is the report.
pub type Check = Result<(), Failure>;

/// Why a check fails.
pub struct Failure {
    problem: String,
    /// Whether the section `Cause` lists several possible causes.
    is_guess: bool,
    sections: BTreeMap<Section, String>,
}

/// The parts of a report, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Started,
    Sent,
    Received,
    Expected,
    Look,
    Differs,
    Output,
    Cause,
    Why,
    Read,
}

impl Failure {
    /// A failure with a sentence that says what is wrong.
    pub fn new(problem: impl Into<String>) -> Failure {
        Failure { problem: problem.into(), is_guess: false, sections: BTreeMap::new() }
    }

    /// Says what the mistake is, as far as a client can tell. A cause that was given before stays.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Failure {
        if self.is_guess {
            self.is_guess = false;
            self.sections.remove(&Section::Cause);
        }
        self.with(Section::Cause, cause.into())
    }

    /// Lists what the mistake may be. A known cause replaces the list.
    #[must_use]
    pub(crate) fn guess(mut self, causes: impl Into<String>) -> Failure {
        self.is_guess = !self.sections.contains_key(&Section::Cause);
        self.with(Section::Cause, causes.into())
    }

    /// Whether the cause is only a guess.
    pub(crate) fn is_guess(&self) -> bool {
        self.is_guess
    }

    /// Says what was expected.
    #[must_use]
    pub(crate) fn expected(self, expected: &[String]) -> Failure {
        if expected.is_empty() { self } else { self.with(Section::Expected, expected.join(", ")) }
    }

    /// Says what the check is about: what a server should do, and why it matters.
    #[must_use]
    pub fn why(self, why: impl Into<String>) -> Failure {
        self.with(Section::Why, why.into())
    }

    /// Shows the bytes that were sent to the server and those that came back.
    #[must_use]
    pub fn bytes(self, sent: &[u8], received: &[u8]) -> Failure {
        let failure = self.with(Section::Sent, show::message(sent));
        failure.with(Section::Received, show::message(received))
    }

    /// Shows the bytes that another failure showed.
    #[must_use]
    pub(crate) fn bytes_of(mut self, mut other: Failure) -> Failure {
        for section in [Section::Started, Section::Sent, Section::Received] {
            if let Some(bytes) = other.sections.remove(&section) {
                self = self.with(section, bytes);
            }
        }
        self
    }

    /// Shows a place in what was received.
    #[must_use]
    pub(crate) fn look(self, look: String) -> Failure {
        self.with(Section::Look, look)
    }

    /// Shows the difference between what was expected and what was found: as text if both are text, otherwise
    /// as bytes.
    #[must_use]
    pub fn difference(self, expected: &[u8], found: &[u8]) -> Failure {
        let (left, right) = if show::is_text(expected) && show::is_text(found) {
            (show::whole_message(expected), show::whole_message(found))
        } else {
            first_difference(expected, found)
        };
        let difference = pretty_assertions::StrComparison::new(&left, &right).to_string();
        let (_, lines) = difference.split_once('\n').unwrap_or_default();
        let difference = format!("- expected, + found\n{}", with_signs(lines));
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let difference = if coloured { difference } else { without_colours(&difference) };
        self.with(Section::Differs, difference)
    }

    /// Says how the server was started, unless `how` is empty.
    #[must_use]
    pub(crate) fn started(self, how: &str) -> Failure {
        if how.is_empty() { self } else { self.with(Section::Started, how.to_owned()) }
    }

    /// Shows the last lines that the server wrote to its output, if it wrote anything.
    #[must_use]
    pub fn output(self, output: &str) -> Failure {
        const LINES: usize = 15;
        let surplus = output.lines().count().saturating_sub(LINES);
        let mut shown: Vec<_> = output.lines().skip(surplus).collect();
        if surplus > 0 {
            shown.insert(0, "…");
        }
        if output.trim().is_empty() { self } else { self.with(Section::Output, shown.join("\n")) }
    }

    /// Says which page explains it.
    #[must_use]
    pub fn read(self, page: impl Into<String>) -> Failure {
        self.with(Section::Read, page.into())
    }

    /// The first text for a section stays, because it was written closest to the failure.
    fn with(mut self, section: Section, text: String) -> Failure {
        self.sections.entry(section).or_insert(text);
        self
    }
}

/// The rows of two hexadecimal dumps around the first byte in which they differ.
fn first_difference(expected: &[u8], found: &[u8]) -> (String, String) {
    const ROW: usize = 16;
    let same = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let first_row = (same / ROW).saturating_sub(1);
    let rows = |bytes| {
        let dump = show::hex(bytes);
        dump.lines().skip(first_row).take(4).collect::<Vec<_>>().join("\n")
    };
    (rows(expected), rows(found))
}

/// Replaces the marks `<` and `>` of a difference by `-` and `+`, as diff programs write them. Each line begins
/// with its colour and a mark.
fn with_signs(lines: &str) -> String {
    let lines = lines.lines().map(|line| match line.split_once('m') {
        Some((colour, rest)) if rest.starts_with('<') => format!("{colour}m-{}", &rest[1..]),
        Some((colour, rest)) if rest.starts_with('>') => format!("{colour}m+{}", &rest[1..]),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Removes the escape sequences that colour a terminal.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// Breaks lines of prose between words.
fn wrap(text: &str) -> String {
    const WIDTH: usize = 76;
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut width = 0;
        for word in line.split(' ') {
            let length = word.chars().count();
            if width > 0 {
                width += 1;
                wrapped.push(if width + length > WIDTH { '\n' } else { ' ' });
                width = if width + length > WIDTH { 0 } else { width };
            }
            wrapped.push_str(word);
            width += length;
        }
        wrapped.push('\n');
    }
    wrapped
}

impl Debug for Failure {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(f, "{}", self.problem)?;
        for (section, text) in &self.sections {
            writeln!(f)?;
            let mut name = format!("{section:?}").to_lowercase();
            let is_prose = matches!(section, Section::Expected | Section::Cause | Section::Why);
            let text = if is_prose { wrap(text) } else { text.clone() };
            for line in text.trim_end().lines() {
                writeln!(f, "{}", format!("  {name:10}{line}").trim_end())?;
                name.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_report_has_its_parts_in_order() {
        let failure = Failure::new("it is wrong")
            .read("docs/04-echo.md")
            .guess("This or that.")
            .cause("This.")
            .why("Two\nlines.")
            .why("Another reason.")
            .output(" \n")
            .bytes(b"GET / HTTP/1.1\r\n\r\n", b"");
        assert_eq!(
            format!("{failure:?}"),
            "it is wrong\n\
             \n  sent      GET / HTTP/1.1\\r\\n\n            \\r\\n\n\
             \n  received  (nothing)\n\
             \n  cause     This.\n\
             \n  why       Two\n            lines.\n\
             \n  read      docs/04-echo.md\n"
        );
    }

    #[test]
    fn prose_is_wrapped_between_words() {
        let words = ["a word"; 20].join(" ");
        let wrapped = wrap(&format!("{words}\nnext"));
        assert!(wrapped.lines().all(|line| line.len() <= 76), "{wrapped}");
        assert_eq!(wrapped.replace('\n', " "), format!("{words} next "));
    }

    #[test]
    fn differences_of_bytes_are_shown_around_the_first() {
        let expected = [7; 100];
        let mut found = expected;
        found[50] = 8;
        let failure = Failure::new("").difference(&expected, &found);
        let report = format!("{failure:?}");
        assert!(report.contains("000030  07 07 08"), "{report}");
        assert!(!report.contains("000000"), "{report}");
    }
}
