//! The clients of a loop, each in a slot. Slots have generations, so that news about an old client never reaches the next
//! one in the same slot.

use std::net::SocketAddr;

use common::{Connection, Remainder};
use mio::Token;

use crate::line::Line;

/// No slot.
const NONE: u32 = u32::MAX;

/// How many bits of a token are the index of the slot. The others are its generation.
const INDEX_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };

/// What a client is doing.
pub(crate) enum State {
    /// The filter of its line is being opened.
    Opening,
    /// Nothing, between two requests: there is nothing to remember.
    Idle,
    /// A part of a request has arrived.
    Receiving(Box<Connection>),
    /// It takes what is sent: first the outbox, then what is left of a response.
    Sending(Box<Connection>, Option<Remainder>),
    /// It hears of events.
    Watching(Box<Connection>, Remainder),
    /// A worker has it.
    Lent,
    /// All has been said. What it still sends is discarded, until it closes its side as well.
    Closing,
    /// Its state is being changed.
    Busy,
}

/// A client.
pub(crate) struct Slot {
    /// `None` while a worker has it.
    pub(crate) line: Option<Line>,
    pub(crate) peer: SocketAddr,
    pub(crate) state: State,
    /// When its patience, or ours, ends, in milliseconds.
    pub(crate) deadline: u64,
    /// The neighbours in the list of idle clients.
    older: u32,
    newer: u32,
    generation: u32,
    /// For which time it is in the wheel, so that it is looked at in time; `u64::MAX` if it is not.
    pub(crate) looked_at: u64,
    pub(crate) is_registered: bool,
    pub(crate) is_told_of_room: bool,
    /// Whether it has closed its side: its end is behind what it has sent.
    pub(crate) has_ended: bool,
    /// Whether it is one of those who are refused, and not served.
    pub(crate) is_refused: bool,
    /// Whether it has been sent something that an abrupt end could destroy.
    pub(crate) has_been_sent: bool,
    is_idle: bool,
}

/// All clients of a loop.
pub(crate) struct Slots {
    slots: Vec<Option<Slot>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    /// The ends of the list of idle clients.
    oldest: u32,
    newest: u32,
}

impl Slots {
    pub(crate) fn new() -> Slots {
        let (slots, generations, free) = (Vec::new(), Vec::new(), Vec::new());
        Slots { slots, generations, free, oldest: NONE, newest: NONE }
    }

    /// Adds a client. Returns the index of its slot.
    pub(crate) fn add(&mut self, line: Line, peer: SocketAddr, is_refused: bool) -> usize {
        let index = self.free.pop().map_or(self.slots.len(), |index| index as usize);
        if index == self.slots.len() {
            self.slots.push(None);
            self.generations.push(0);
        }
        self.slots[index] = Some(Slot {
            line: Some(line),
            peer,
            state: State::Opening,
            deadline: 0,
            older: NONE,
            newer: NONE,
            generation: self.generations[index],
            looked_at: u64::MAX,
            is_registered: false,
            is_told_of_room: false,
            has_ended: false,
            is_refused,
            has_been_sent: false,
            is_idle: false,
        });
        index
    }

    /// Removes a client.
    pub(crate) fn remove(&mut self, index: usize) -> Option<Slot> {
        self.leave_idle(index);
        let slot = self.slots.get_mut(index)?.take()?;
        self.generations[index] = self.generations[index].wrapping_add(1);
        self.free.push(index as u32);
        Some(slot)
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// Returns the index of the client that a token means, if it is still there.
    pub(crate) fn find(&self, token: Token) -> Option<usize> {
        let index = token.0 & ((1 << INDEX_BITS) - 1);
        (self.token(index)? == token).then_some(index)
    }

    /// Returns the token of the client in a slot.
    pub(crate) fn token(&self, index: usize) -> Option<Token> {
        let generation = self.slots.get(index)?.as_ref()?.generation as usize;
        Some(Token(generation.wrapping_shl(INDEX_BITS) & (usize::MAX >> 1) | index))
    }

    /// Returns the indexes of all clients.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|index| self.slots[*index].is_some()).collect()
    }

    /// Puts a client at the end of the list of idle ones.
    pub(crate) fn enter_idle(&mut self, index: usize) {
        self.leave_idle(index);
        let newest = self.newest;
        if let Some(slot) = self.get(index) {
            (slot.older, slot.newer, slot.is_idle) = (newest, NONE, true);
        }
        match self.get(newest as usize) {
            Some(before) => before.newer = index as u32,
            None => self.oldest = index as u32,
        }
        self.newest = index as u32;
    }

    /// Takes a client from the list of idle ones, if it is there.
    pub(crate) fn leave_idle(&mut self, index: usize) {
        let Some(slot) = self.get(index).filter(|slot| slot.is_idle) else { return };
        let (older, newer) = (slot.older, slot.newer);
        slot.is_idle = false;
        match self.get(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.get(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }

    /// Returns the client that has been idle longest.
    pub(crate) fn idlest(&self) -> Option<usize> {
        (self.oldest != NONE).then_some(self.oldest as usize)
    }
}
