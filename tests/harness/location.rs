//! Where a redirect leads.

/// The path and the query that a `Location` leads to, if it stays on this server.
pub(crate) fn on_this_site(location: &str) -> Option<String> {
    let path = match location.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            let (host, path) = rest.split_at(rest.find('/')?);
            let host = host.split(':').next().unwrap_or_default();
            ["localhost", "127.0.0.1"].contains(&host).then_some(path)?
        }
        _ => location,
    };
    match path.strip_prefix('/') {
        Some(rest) => (!rest.starts_with(['/', '\\'])).then(|| path.to_owned()),
        None => Some(format!("/{}", path.trim_start_matches("./"))),
    }
}
