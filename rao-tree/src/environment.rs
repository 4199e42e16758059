//! What is acted upon: [`Environment`], one value per node.

use crate::policy::Constraint;
use rao_proto::{Budget, Limit, NodeStatus, Success, Token};

/// The world as one node sees it.
///
/// # For implementers
/// A node's environment owns what that node alone knows and shares what its tree shares. [`child`](Environment::child) hands a child its
/// task; the driver decides whether it may exist at all. Calls for one node never overlap; calls for siblings may interleave in any order.
pub trait Environment: Sized {
    /// The environment itself broke. Costs this node alone: it becomes invalid, never a zero.
    type Error: core::error::Error;

    /// Writes the opening context: what the parent handed over.
    ///
    /// # Errors
    /// The environment broke, or the opening context does not fit.
    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Self::Error>;

    /// What the policy may say next; `None` for free text.
    fn constraint(&mut self) -> Option<&mut dyn Constraint>;

    /// Takes an action and writes what the node then sees.
    ///
    /// # Errors
    /// The environment broke. A clumsy action is an observation, not an error.
    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, Self::Error>;

    /// The environment of child `index` of the delegation that [`step`](Environment::step) has just asked for.
    ///
    /// # Errors
    /// The environment broke.
    fn child(&mut self, index: u8) -> Result<Self, Self::Error>;

    /// What this node lets child `index` use of what it has left; everything by default. The driver takes the smaller of the two: a child
    /// cannot be given what its parent does not have.
    fn budget(&self, index: u8) -> Budget {
        let _ = index;
        Budget::UNLIMITED
    }

    /// Takes the answers of a whole delegation, in the order it named the children, and writes what the node then sees.
    ///
    /// # Errors
    /// The environment broke.
    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Self::Error>;

    /// What this node was asked to do, in words for people: it goes into the event log and is never shown to the policy. Empty by default.
    ///
    /// # Errors
    /// Only those of `out`.
    fn describe(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let _ = out;
        Ok(())
    }

    /// What this node hands to its parent when it ends; empty by default.
    fn answer(&self) -> &[u8] {
        &[]
    }
}

/// What an action led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The node goes on.
    Continue,
    /// The node waits for this many children, which work at once.
    Delegate {
        /// How many, at least 1.
        children: u8,
    },
    /// The node is done and was graded.
    Finish(Success),
    /// The node is done, and somebody else says what its answer is worth, later: a judge, or the root's success. Its parent goes on meanwhile,
    /// and sees no success; the run stays open until every verdict is in.
    Submit,
    /// The environment ends the node for something it did: success 0.
    Fail,
    /// The environment's own limit was met.
    Truncate(Limit),
}

/// What came of one launch of a delegation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer<'a> {
    /// The child ran and ended.
    Ended {
        /// How.
        status: NodeStatus,
        /// Its own success; zero unless it finished and its environment graded it ([`Outcome::Finish`]).
        success: Success,
        /// What it hands over.
        value: &'a [u8],
    },
    /// The child was never launched.
    Refused(Limit),
}

/// Where an environment writes what a node sees; refuses what the node's window cannot hold.
pub struct Observation<'a> {
    window: &'a mut [Token],
    /// Tokens of the window that are not taken by the context so far.
    room: usize,
    len: usize,
    overflowed: bool,
    restarts: bool,
}

impl<'a> Observation<'a> {
    /// Nothing seen yet, by a node that has seen nothing before: `window` is all that it can see.
    pub fn new(window: &'a mut [Token]) -> Self {
        Self::after(window, 0)
    }

    /// Nothing seen yet, by a node whose context takes so many tokens of its window. `window` is scratch space of the window's length;
    /// the context itself is not in it.
    pub fn after(window: &'a mut [Token], context: usize) -> Self {
        Self {
            room: window.len().saturating_sub(context),
            window,
            len: 0,
            overflowed: false,
            restarts: false,
        }
    }

    /// Appends a token; past the window it is dropped and the node will be truncated.
    pub fn push(&mut self, token: Token) {
        if self.len == self.room {
            self.overflowed = true;
        } else if let Some(place) = self.window.get_mut(self.len) {
            *place = token;
            self.len += 1;
        }
    }

    /// Begins the node's context anew: what it read and chose so far is no longer before it, and what is written from here on, with the whole
    /// window for it, is its new prompt. For a conversation that, written down anew, does not begin with what was said so far: a chat
    /// template that leaves earlier thoughts out, or a summary in the place of a long history.
    ///
    /// What was chosen before is trained as a sequence of its own (its tokens are never tokenised again).
    pub fn restart(&mut self) {
        self.room = self.window.len();
        self.len = 0;
        self.overflowed = false;
        self.restarts = true;
    }

    /// What was written, since the restart if there was one.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.window[..self.len]
    }

    /// Something did not fit.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The context begins anew with [`tokens`](Self::tokens).
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.restarts
    }
}
