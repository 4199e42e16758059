//! An environment whose panics cost its own node, as its errors do.

use rao_tree::{Answer, Budget, Constraint, Environment, Mask, Next, Observation, Outcome, Token};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls an environment, and never again once it has panicked: what it was in the middle of is not known.
pub(super) struct Guarded<E> {
    /// None once it has panicked.
    inner: Option<E>,
    /// What a call could not report that returns no error; told at the next one that does.
    fault: RefCell<Option<Fault>>,
    /// Tokens that the constraint's action ends with, where it says so: a constraint cannot be asked through a shared reference.
    ends: Option<Vec<Token>>,
}

/// What an environment did wrong, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It says so itself.
    #[error("{0}")]
    Failed(String),
    /// It panicked.
    #[error("the environment panicked: {0}")]
    Panicked(String),
}

impl<E> Guarded<E> {
    pub(super) fn new(inner: E) -> Self {
        Self {
            inner: Some(inner),
            fault: RefCell::new(None),
            ends: None,
        }
    }

    /// What `call` makes of the environment.
    fn call<T>(&mut self, call: impl FnOnce(&mut E) -> Result<T, Fault>) -> Result<T, Fault> {
        if let Some(fault) = self.fault.get_mut() {
            return Err(fault.clone());
        }
        let Some(inner) = &mut self.inner else {
            return Err(Fault::Panicked("earlier".into()));
        };
        // Whatever it has left half done is never looked at again.
        catch_unwind(AssertUnwindSafe(|| call(inner))).unwrap_or_else(|panic| {
            let fault = Fault::Panicked(message(&*panic));
            *self.fault.get_mut() = Some(fault.clone());
            self.lay_down();
            Err(fault)
        })
    }

    /// The same for calls that only look; `None` after a panic.
    fn look<'s, T>(&'s self, call: impl FnOnce(&'s E) -> T) -> Option<T> {
        if self.fault.borrow().is_some() {
            return None;
        }
        let inner = self.inner.as_ref()?;
        let looked = catch_unwind(AssertUnwindSafe(|| call(inner)));
        looked
            .map_err(|panic| *self.fault.borrow_mut() = Some(Fault::Panicked(message(&*panic))))
            .ok()
    }

    /// Drops the environment, which may panic once more.
    fn lay_down(&mut self) {
        let inner = self.inner.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(inner)));
    }
}

impl<E> Drop for Guarded<E> {
    fn drop(&mut self) {
        self.lay_down();
    }
}

fn failed<T>(result: Result<T, impl fmt::Display>) -> Result<T, Fault> {
    result.map_err(|error| Fault::Failed(error.to_string()))
}

impl<E: Environment> Environment for Guarded<E> {
    type Error = Fault;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Fault> {
        self.call(|inner| failed(inner.observe(out)))
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        let mut ends = self.ends.take();
        let constrains = self.call(|inner| {
            let constraint = inner.constraint();
            let said = constraint.as_ref().and_then(|constraint| constraint.ends());
            // The same for all actions, as a rule: nothing is copied then.
            if said != ends.as_deref() {
                ends = said.map(<[Token]>::to_vec);
            }
            Ok(constraint.is_some())
        });
        self.ends = ends;
        // After a panic, `next` ends the action, and `step` tells of it.
        if constrains == Ok(false) { None } else { Some(self) }
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, Fault> {
        self.call(|inner| failed(inner.step(action, out)))
    }

    fn child(&mut self, index: u8) -> Result<Self, Fault> {
        self.call(|inner| failed(inner.child(index))).map(Self::new)
    }

    fn budget(&self, index: u8) -> Budget {
        self.look(|inner| inner.budget(index)).unwrap_or(Budget::UNLIMITED)
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Fault> {
        self.call(|inner| failed(inner.resume(answers, out)))
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.look(|inner| inner.describe(out)).unwrap_or(Ok(()))
    }

    fn answer(&self) -> &[u8] {
        self.look(|inner| inner.answer()).unwrap_or(&[])
    }
}

impl<E: Environment> Constraint for Guarded<E> {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let next = self.call(|inner| {
            let constraint = inner.constraint();
            Ok(constraint.map_or(Next::Complete, |constraint| constraint.next(completion, mask)))
        });
        next.unwrap_or(Next::Complete)
    }

    fn ends(&self) -> Option<&[Token]> {
        self.ends.as_deref()
    }
}

/// What a panic says.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it says nothing".into())
}
