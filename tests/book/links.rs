//! Links between pages, and to files.

use std::path::PathBuf;

use harness::repository;

use crate::Page;

/// What is wrong with the links of a page.
pub fn check(page: &Page, pages: &[Page]) -> Vec<String> {
    let complaints = links(page).into_iter().filter_map(|(line, link)| {
        let complaint = resolve(page, &link, pages).err()?;
        Some(format!("{}:{line}: {link}: {complaint}", page.name()))
    });
    complaints.collect()
}

fn resolve(page: &Page, link: &str, pages: &[Page]) -> Result<(), &'static str> {
    if let Some((scheme, _)) = link.split_once("://") {
        let is_local = link.starts_with("http://127.0.0.1:4221");
        return if scheme == "https" || is_local { Ok(()) } else { Err("not https") };
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if file.is_empty() { page.path.clone() } else { page.path.with_file_name(file) };
    let path = path.canonicalize().map_err(|_| "there is no such file")?;
    if !path.starts_with(repository().canonicalize().unwrap_or_default()) {
        return Err("this link leads out of the repository");
    }
    let same = |other: &&Page| other.path.canonicalize().is_ok_and(|it: PathBuf| it == path);
    match pages.iter().find(same) {
        Some(target) if !anchor.is_empty() && !anchors(target).iter().any(|it| it == anchor) => {
            Err("there is no such heading")
        }
        None if !anchor.is_empty() => Err("only pages have headings"),
        _ => Ok(()),
    }
}

/// The links in the prose of a page, with their line numbers.
fn links(page: &Page) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in page.prose() {
        for rest in line.split("](").skip(1) {
            links.extend(rest.split(')').next().map(|link| (number, link.to_owned())));
        }
        for rest in line.split("<http").skip(1) {
            links.extend(rest.split('>').next().map(|link| (number, format!("http{link}"))));
        }
    }
    links
}

/// The anchors of the headings of a page, as GitHub and mdBook generate them.
pub fn anchors(page: &Page) -> Vec<String> {
    let lines = page.prose();
    let headings = lines.iter().filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| text.trim())
    });
    headings
        .map(|heading| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|it| it.is_alphanumeric() || "-_".contains(*it)).collect()
        })
        .collect()
}
