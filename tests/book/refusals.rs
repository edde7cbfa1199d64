//! The tables of refusals: the bytes in the last column must get the status or the sentence in the first column.

use harness::{Check, Server};

use crate::blocks::Page;

/// Sends the bytes of each row to a stage, and compares the answers. Ignores rows whose last cell is not a complete
/// request.
pub fn check(page: &Page, stage: &'static str) -> Vec<String> {
    let server = match Server::start_own(stage) {
        Ok(server) => server,
        Err(failure) => return vec![format!("{failure:?}")],
    };
    let by_status = rows(page, "| status | means |").into_iter().map(|(first, bytes)| {
        let status = first.split(' ').next().and_then(|digits| digits.parse().ok());
        expect(&server, &bytes, status.unwrap_or(0), None)
    });
    let by_sentence = rows(page, "| the body says |")
        .into_iter()
        .map(|(first, bytes)| expect(&server, &bytes, 400, Some(format!("{first}\n"))));
    by_status.chain(by_sentence).filter_map(|check| Some(format!("{:?}", check.err()?))).collect()
}

fn expect(server: &Server, bytes: &[u8], status: u16, body: Option<String>) -> Check {
    let exchange = server.send(bytes).status(status);
    let exchange = match body {
        Some(body) => exchange.body(body),
        None => exchange,
    };
    exchange.because("The table in the chapter says so.")
}

/// The first cell and the bytes of each row below this heading.
fn rows(page: &Page, heading: &str) -> Vec<(String, Vec<u8>)> {
    let lines = page.text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let first = row.split(" | ").next()?.trim_start_matches("| ").to_owned();
        let escaped = row.strip_suffix("` |")?.rsplit('`').next()?;
        Some((first, unescape(escaped)))
    })
    .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").into_bytes()
}
