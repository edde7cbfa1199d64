//! The patterns of routes (stage 17's lasting form).

/// A part of a pattern, between two of its slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// `user`: this text, decoded.
    Name(&'static str),
    /// `:id`: any text that is not empty.
    Parameter(&'static str),
    /// `*path`: all that is left of the path, with its slashes; perhaps nothing.
    Rest(&'static str),
}

/// Splits a pattern into its segments.
///
/// # Errors
///
/// What is wrong with a pattern that no path can fit, or that means something else than its author thinks.
pub(crate) fn parse(pattern: &'static str) -> Result<Vec<Segment>, &'static str> {
    let path = pattern.strip_prefix('/').ok_or("does not begin with a slash")?;
    if pattern.contains(['?', '#']) {
        return Err("has a ? or a #, and is for paths: the query takes no part");
    }
    let segments: Vec<_> = path.split('/').map(segment).collect();
    let mut names: Vec<_> = segments.iter().filter_map(parameter).collect();
    if !names.iter().all(|name| is_name(name)) {
        return Err("has a parameter whose name is not made of letters, digits and _");
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("has two parameters of the same name");
    }
    let before_last = segments.iter().rev().skip(1);
    if before_last.into_iter().any(|segment| matches!(segment, Segment::Rest(_))) {
        return Err("goes on after a *, and nothing is left there");
    }
    Ok(segments)
}

fn segment(text: &'static str) -> Segment {
    match (text.strip_prefix(':'), text.strip_prefix('*')) {
        (Some(name), _) => Segment::Parameter(name),
        (_, Some(name)) => Segment::Rest(name),
        _ => Segment::Name(text),
    }
}

/// The name of the parameter that a segment is, if it is one.
pub(crate) fn parameter(segment: &Segment) -> Option<&'static str> {
    match segment {
        Segment::Name(_) => None,
        Segment::Parameter(name) | Segment::Rest(name) => Some(name),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_pattern_is_names_parameters_and_a_rest() {
        use Segment::{Name, Parameter, Rest};
        assert_eq!(parse("/"), Ok(vec![Name("")]));
        assert_eq!(parse("/user/:id"), Ok(vec![Name("user"), Parameter("id")]));
        assert_eq!(parse("/user/:id/"), Ok(vec![Name("user"), Parameter("id"), Name("")]));
        assert_eq!(parse("/a b/*rest_1"), Ok(vec![Name("a b"), Rest("rest_1")]));
        assert_eq!(parse("/a:b*c"), Ok(vec![Name("a:b*c")]));
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        for pattern in [
            "", "user", "/a?b=:c", "/#a", "/:", "/*", "/:a.json", "/:a/:a", "/:a/*a", "/*a/b",
            "/*a/",
        ] {
            assert!(parse(pattern).is_err(), "{pattern}");
        }
    }
}
