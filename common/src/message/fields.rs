//! The fields of a head, parsed in one pass, in however many pieces they arrive (stage 3's lasting form).

use crate::message::headers::{Field, FieldState, Headers, Kinds, Known};
use crate::message::refused::Refused;
use crate::message::syntax::Class;

/// The most field lines that a head may have.
pub const MAX_FIELDS: usize = 100;

/// A parser for the lines between a start line and the empty line. Positions are those in the bytes of the head.
#[derive(Debug, Default)]
pub(crate) struct FieldParser {
    state: FieldState,
    /// Where the fields begin.
    start: usize,
    fields: Vec<Field>,
    kinds: Kinds,
    /// The field that has not ended yet: where its name begins, and where its colon is.
    open: (usize, usize),
}

impl FieldParser {
    /// Prepares for another head. Memory is kept.
    pub(crate) fn reset(&mut self) {
        self.fields.clear();
        (self.state, self.kinds) = (FieldState::default(), Kinds::default());
    }

    /// Takes note of where the fields begin.
    pub(crate) fn begin(&mut self, start: usize) {
        self.start = start;
    }

    /// Returns where the fields begin.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Whether the empty line has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == FieldState::Done
    }

    /// Returns the fields. `bytes` must be those of the head.
    pub(crate) fn headers<'a>(&'a self, bytes: &'a [u8]) -> Headers<'a> {
        Headers::new(bytes, &self.fields, self.kinds)
    }

    /// Continues at this byte, up to the one after the empty line. Returns how far it has come.
    ///
    /// # Errors
    ///
    /// 400 for what is no field, and 431 for too many of them.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut at: usize) -> Result<usize, Refused> {
        let mut state = self.state;
        while state != FieldState::Done {
            if state == FieldState::LineStart && self.fields.len() < MAX_FIELDS {
                if let Some((field, length)) = whole_field(bytes, at) {
                    self.add(field);
                    at += length;
                    continue;
                }
            }
            at += state.inside().run(&bytes[at..]);
            let Some(&byte) = bytes.get(at) else { break };
            state = state.next(byte)?;
            match state {
                FieldState::Name if self.fields.len() == MAX_FIELDS => return Err(TOO_MANY_FIELDS),
                FieldState::Name => self.open.0 = at,
                FieldState::Value => self.open.1 = at,
                FieldState::LineEnd => {
                    self.add(field_at(bytes, self.open.0, self.open.1, at));
                }
                _ => {}
            }
            at += 1;
        }
        self.state = state;
        Ok(at)
    }

    fn add(&mut self, field: Field) {
        if let Some(known) = field.known {
            self.kinds.add(known);
        }
        self.fields.push(field);
    }
}

/// Parses a field line that has arrived whole in fewer steps. Returns it with its length; `None` if anything is unusual.
fn whole_field(bytes: &[u8], start: usize) -> Option<(Field, usize)> {
    let line = &bytes[start..];
    let name = Class::TCHAR.run(line);
    let value = line.get(name..)?.strip_prefix(b":").filter(|_| name > 0)?;
    let length = Class::TEXT.run(value);
    let end = start + name + 1 + length;
    value[length..]
        .starts_with(b"\r\n")
        .then(|| (field_at(bytes, start, start + name, end), end + 2 - start))
}

/// Parses a field line that ends at `end`: `field-name ":" OWS field-value OWS`.
fn field_at(bytes: &[u8], name: usize, colon: usize, end: usize) -> Field {
    let is_space = |&&byte: &&u8| byte == b' ' || byte == b'\t';
    let value = &bytes[colon + 1..end];
    let before = value.iter().take_while(is_space).count();
    let after = value[before..].iter().rev().take_while(is_space).count();
    // A head is shorter than 64 KiB.
    let [name, colon_, from, to] =
        [name, colon, colon + 1 + before, end - after].map(|at| u16::try_from(at).unwrap_or(0));
    let known = Known::of(&bytes[usize::from(name)..colon]);
    Field { name, colon: colon_, value: (from, to), known }
}

const TOO_MANY_FIELDS: Refused =
    Refused { status: 431, why: "the request has more than 100 fields" };
